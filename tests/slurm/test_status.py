"""How runs stand, from their folders and the queue."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from launch.last_lines import BLOCK, last_lines, start_of_last_lines
from launch.step_log import Step
from pretrain.checkpoint.manifest import Manifest, State
from pretrain.checkpoint.store import LocalStore
from pretrain.lock import hold
from slurm.cli import app
from slurm.queue import QueuedJob
from slurm.run_folder import eta_seconds, is_in_use
from slurm.status import RunStatus, statuses
from slurm.status_table import readable

NOW = 1_800_000_000.0
ROOT = Path(__file__).parents[2]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def write_run(folder: Path, steps: int, target: int, ended: float = NOW - 60) -> Path:
    """A run of which each step took 2 s, the last of them until ``ended``."""
    folder.mkdir()
    (folder / "config.yaml").write_text("run:\n  name: any\n")
    with (folder / "log.jsonl").open("w") as log:
        for step in range(1, steps + 1):
            time = ended - 2 * (steps - step)
            record = {"step": step, "loss": 1 / step, "seconds": 1.5, "time": time}
            log.write(json.dumps(record | {"target": target}) + "\n")
    return folder


def commit(folder: Path, step: int, target: int, starts: tuple[int, ...]) -> None:
    store = LocalStore(folder / "checkpoints")
    state = State(
        step=step, epoch=0, updates=step, target=target, starts=starts, fingerprint={}, shapes={}
    )
    store.aside(state.name).mkdir(parents=True)
    store.commit(state.name, Manifest(state=state, world_size=1, pieces={}, files={}))


def queued(run: Path, state: str, reason: str = "", restarts: int = 0) -> QueuedJob:
    return QueuedJob(
        id="12",
        array_task=None,
        name=run.name,
        run=run,
        state=state,
        reason=reason,
        restarts=restarts,
        submitted=None,
        started=None,
        elapsed_seconds=None,
        limit_seconds=None,
        nodes="",
    )


def only(found: list[RunStatus]) -> RunStatus:
    (one,) = found
    return one


def test_a_stopped_run_tells_its_restarts_by_its_newest_checkpoint(runs: Path) -> None:
    run = write_run(runs / "base", steps=80, target=100)
    commit(run, 80, 100, starts=(0, 30, 50))
    found = only(statuses(runs, [], NOW))
    assert (found.run, found.state, found.step, found.target) == (run, "stopped", 80, 100)
    assert (found.restarts, found.age_seconds, found.loss) == (2, 60, 1 / 80)
    assert found.eta_seconds is None  # nobody is on the way


def test_a_run_at_its_target(runs: Path) -> None:
    write_run(runs / "base", steps=10, target=10)
    assert only(statuses(runs, [], NOW)).state == "at target"


def test_a_log_without_times_and_targets_takes_the_checkpoints_target(runs: Path) -> None:
    run = runs / "old"
    run.mkdir()
    (run / "log.jsonl").write_text('{"step": 1, "loss": null}\n{"step": 2, "loss": 0.5}\n{"ste')
    os.utime(run / "log.jsonl", (NOW - 5, NOW - 5))
    commit(run, 2, 9, starts=(0,))
    found = only(statuses(runs, [], NOW))
    assert (found.step, found.target, found.loss, found.age_seconds) == (2, 9, 0.5, 5)
    assert (found.state, found.restarts) == ("stopped", 0)


def test_a_run_that_trains_here_holds_its_lock_and_has_an_eta(runs: Path) -> None:
    run = write_run(runs / "base", steps=80, target=100)
    with hold(run):
        os.utime(run / ".lock", (NOW - 81, NOW - 81))  # the last eleven steps are of this start
        found = only(statuses(runs, [], NOW))
        assert (found.state, found.eta_seconds) == ("running", 40)
    assert only(statuses(runs, [], NOW)).state == "stopped"


def test_looking_at_a_lock_does_not_change_it(runs: Path) -> None:
    with hold(runs):
        assert is_in_use(runs)
    named = (runs / ".lock").read_text()
    assert not is_in_use(runs)
    assert (runs / ".lock").read_text() == named


def test_the_queue_comes_first_wherever_the_run_lies(runs: Path, tmp_path: Path) -> None:
    write_run(runs / "older", steps=3, target=10, ended=NOW - 500)
    write_run(runs / "newer", steps=3, target=10)
    here = write_run(runs / "here", steps=3, target=10)
    elsewhere = tmp_path / "elsewhere"
    jobs = [queued(elsewhere, "PENDING", "Priority"), queued(here, "RUNNING", restarts=4)]
    found = statuses(runs, jobs, NOW)
    assert [one.run.name for one in found] == ["elsewhere", "here", "newer", "older"]
    assert [one.state for one in found[:2]] == ["pending (Priority)", "running"]
    assert [one.restarts for one in found] == [0, 4, None, None]
    assert found[0].step is None


def test_the_pace_counts_saves_and_validations() -> None:
    steps = [
        Step(step=1, loss=0.0, time=100.0),
        Step(step=2, loss=0.0, time=101.0),
        Step(step=3, loss=0.0, time=120.0),
    ]
    assert eta_seconds(steps, 13) == 100
    assert eta_seconds(steps, 2) == 0
    assert eta_seconds(steps[:1], 13) is None
    assert eta_seconds([Step(step=1, loss=0.0), Step(step=2, loss=0.0)], 13) is None


@given(st.lists(st.sampled_from([b"", b"a", b"bcd"])), st.booleans(), st.integers(0, 5))
def test_the_last_lines_are_those_of_the_whole_file(
    lines: list[bytes], ends: bool, count: int
) -> None:
    content = b"\n".join(lines) + (b"\n" if ends else b"")
    start = start_of_last_lines(io.BytesIO(content), count)
    whole = content.splitlines()
    assert content[start:].splitlines() == whole[max(0, len(whole) - count) :]


def test_only_the_end_of_a_long_file_is_read(tmp_path: Path) -> None:
    class Counted(io.FileIO):
        taken = 0

        def read(self, size: int | None = -1, /) -> bytes:  # type: ignore[override]
            found = super().read(-1 if size is None else size) or b""
            self.taken += len(found)
            return found

    path = tmp_path / "log.jsonl"
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + b"x" * (BLOCK + 5) + b"\nlast\n")
    with Counted(path) as counted:
        start = start_of_last_lines(counted, 2)  # type: ignore[arg-type]
    assert start == 100 * 1024 * 1024 + 1
    assert counted.taken <= 2 * BLOCK
    assert [len(line) for line in last_lines(path, 2)] == [BLOCK + 5, 4]
    assert last_lines(tmp_path / "none", 2) == []


def test_durations_have_two_units() -> None:
    read = [readable(seconds) for seconds in (12, 59.9, 200, 3599, 19_200, 90_000 * 3)]
    assert read == ["12 s", "60 s", "3 min", "1 h 0 min", "5 h 20 min", "3 d 3 h"]


def test_the_commands_answer_without_slurm(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(runs / "base", steps=80, target=100)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["jobs"], catch_exceptions=False)
    assert shown.stderr.startswith("without the queue: squeue is not on PATH")
    assert len(shown.stderr.splitlines()) == 1
    assert "80/100" in shown.stdout
    assert "0.0125" in shown.stdout
    found = json.loads(CliRunner().invoke(app, ["jobs", "--json"]).stdout)
    assert [(one["run"], one["state"]) for one in found] == [(str(runs / "base"), "stopped")]
    assert "no run in none" in CliRunner().invoke(app, ["jobs", "none"]).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["logs", "base"], "has no job log, it never ran under SLURM; its steps are in"),
        (["logs", "nobody"], "nobody is no run's folder and no run in runs/"),
        (["cancel", "base"], "squeue is not on PATH"),
    ],
)
def test_what_cannot_be_done_without_slurm_is_one_sentence(
    runs: Path, arguments: list[str], said: str
) -> None:
    write_run(runs / "base", steps=1, target=2)
    done = subprocess.run(
        [sys.executable, "-m", "slurm", *arguments],
        cwd=runs.parent,
        env={"PATH": str(runs), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_checkpoint_is_looked_at_without_torch(runs: Path) -> None:
    commit(write_run(runs / "base", steps=1, target=2), 1, 2, starts=(0,))
    script = (
        "import sys; from pathlib import Path; from slurm.status import statuses\n"
        f"(one,) = statuses(Path({str(runs)!r}), [], 0.0)\n"
        "print(one.restarts, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0", "False"]
