"""What training must give, shown with real processes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from distributed_runs import CONFIG, Run

STEPS = 12


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def two_processes(token_shards: Path, runs: Path) -> Run:
    run = Run(runs / "two", token_shards, overrides=("precision=fp32", "train.steps=20"))
    assert run.finish() == 0, run.output
    return run


def test_one_process_with_twice_the_accumulation_gives_the_same_curve(
    two_processes: Run, token_shards: Path, runs: Path
) -> None:
    one = Run(
        runs / "one",
        token_shards,
        processes=1,
        overrides=("precision=fp32", "train.steps=20", "data.workers=0"),
    )
    assert one.finish() == 0, one.output
    assert len(one.losses()) == 20
    assert one.losses() == pytest.approx(two_processes.losses(), rel=1e-4)


def test_the_loss_falls_and_events_and_checkpoints_are_written(two_processes: Run) -> None:
    losses = two_processes.losses()
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert list((two_processes.folder / "tensorboard").glob("events.*"))
    assert [name.split("_step_")[1] for name in two_processes.checkpoints()] == ["00000020"]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_killed_run_started_again_continues_bit_for_bit(
    stage: int, token_shards: Path, runs: Path
) -> None:
    settings = (f"train.steps={STEPS}", "train.save_every=3", "model.dropout=0.1")
    reference = Run(runs / f"reference{stage}", token_shards, stage, overrides=settings)
    killed = Run(runs / f"killed{stage}", token_shards, stage, overrides=settings)
    assert reference.finish() == 0, reference.output

    at = random.SystemRandom().randrange(4, STEPS - 1)
    killed.kill_after(at)
    assert killed.finish() == 0, killed.output

    assert "resumed run" in killed.output, f"killed at {at}: {killed.output}"
    assert killed.losses() == reference.losses(), f"killed at {at}"
    assert [record["step"] for record in killed.log()] == list(range(1, STEPS + 1))


def test_a_run_goes_on_in_another_stage_on_another_number_of_processes(
    two_processes: Run, token_shards: Path
) -> None:
    more = Run(
        two_processes.folder,
        token_shards,
        stage=3,
        processes=4,
        overrides=("precision=fp32", "train.steps=24"),
    )
    before = two_processes.losses()
    assert more.finish() == 0, more.output
    assert more.losses()[:20] == before
    assert len(more.losses()) == 24
    assert more.losses()[-1] < before[0]


def test_a_stop_file_saves_after_the_current_step_and_the_same_command_goes_on(
    token_shards: Path, runs: Path
) -> None:
    run = Run(runs / "stopped", token_shards, overrides=("train.steps=400", "train.save_every=400"))
    process = run.start()
    while len(run.log()) < 3:
        assert process.poll() is None, process.communicate()[0]
    (run.folder / "STOP").touch()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    reached = int(run.log()[-1]["step"])
    assert f"stopped at step {reached} as asked" in output
    assert int(run.checkpoints()[-1].split("_step_")[1]) == reached < 400

    run.overrides = (f"train.steps={reached}", "train.save_every=400")
    assert run.finish() == 0, run.output
    assert f"already at step {reached}, the target is {reached}" in run.output


def segue_launch(run: Run) -> subprocess.Popen[str]:
    """`segue launch` on a terminal's terms: in a process group of its own."""
    overrides = run.command().arguments[run.command().arguments.index("pretrain") + 2 :]
    return subprocess.Popen(
        [
            Path(sys.executable).with_name("segue"),
            "launch",
            str(CONFIG),
            *overrides,
            "--nproc",
            "2",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_steps(run: Run, steps: int, process: subprocess.Popen[str]) -> None:
    while len(run.log()) < steps:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)


def processes_of(run: Run) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode().replace("\0", " ")
        except OSError:
            continue
        if f"run.name={run.folder.name} " in command and str(run.folder.parent) in command:
            found.append(command)
    return found


def test_ctrl_c_saves_and_stops_without_a_traceback_and_a_killed_launcher_leaves_nothing(
    token_shards: Path, runs: Path
) -> None:
    run = Run(runs / "launched", token_shards, overrides=("train.steps=4000",))
    launched = segue_launch(run)
    wait_for_steps(run, 3, launched)
    os.killpg(launched.pid, signal.SIGINT)  # what a terminal does
    output, _ = launched.communicate(timeout=60)
    assert launched.returncode == 0, output
    assert "as asked; the same command resumes it" in output
    assert "Traceback" not in output

    reached = len(run.log())
    launched = segue_launch(run)
    wait_for_steps(run, reached + 2, launched)
    launched.kill()
    launched.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while processes_of(run) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(run) == []


def test_damage_met_while_training_ends_the_run_and_keeps_its_checkpoint(
    token_shards: Path, runs: Path
) -> None:
    shards = runs / "damaged"
    shutil.copytree(token_shards, shards)
    run = Run(
        runs / "cut",
        shards,
        overrides=("train.steps=4000", "train.save_every=5", "data.workers=2"),
    )
    process = run.start()
    wait_for_steps(run, 6, process)
    for shard in shards.glob("*.tar"):
        os.truncate(shard, 3000)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "EOFError" in output and "were indexed" in output
    assert run.checkpoints()[-1].endswith("_step_00000005") or len(run.checkpoints()) == 2


def test_another_model_size_in_the_same_run_is_one_sentence(
    two_processes: Run, token_shards: Path
) -> None:
    larger = Run(two_processes.folder, token_shards, overrides=("model.n_layer=3",))
    launched = segue_launch(larger)
    output, _ = launched.communicate(timeout=60)
    assert launched.returncode == 2, output
    assert "Traceback" not in output
    assert "parameter h.layers.2.linear1.bias is absent there" in output
