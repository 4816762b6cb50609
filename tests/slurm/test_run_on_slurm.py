"""One run through all that a cluster does to it, and the curve of a run that was left in peace.

The tests go on with one another's run, in the order in which they stand here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from two_nodes import Cluster, processes_with, wait_until
from typer.testing import CliRunner

from pretrain.metrics.files import read_log
from slurm.cli import app

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
PATIENCE = 120.0
SETTINGS = (
    "run.dir=runs",
    *("data.path=shards", "schedule.name=constant", "train.steps=100000", "train.log_every=1"),
    *("model.hidden_dim=32", "model.head=2", "model.n_layer=2"),
    *("batch.seconds=96", "batch.micro_seconds=12", "batch.buckets=4"),
    "checkpoint.every=7",
)
CORES = 2
"""Of each process: with another number of threads its sums come out otherwise."""
STEPS = 4
"""Steps that a start makes at least before something happens to it."""


@dataclass
class ClusterRun:
    """A run of two processes, however they are spread, and the job that trains it."""

    cluster: Cluster
    settings: tuple[str, ...]
    name: str
    job: str = field(default="", init=False)

    @property
    def folder(self) -> Path:
        return Path("runs", self.name)

    def submit(self, *options: str) -> None:
        command = ["submit", "run.yaml", f"run.name={self.name}", *self.settings, *options]
        done = CliRunner().invoke(app, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        self.job = done.output.split()[2].rstrip(",")

    def log(self) -> str:
        path = self.folder / "slurm" / f"job-{self.job}.out"
        return path.read_text() if path.exists() else ""

    def losses(self) -> list[float]:
        return [record["loss"] for record in read_log(self.folder / "log.jsonl")]

    def fact(self, name: str) -> str:
        shown = self.cluster.ask("scontrol", "show", "job", self.job)
        return shown.partition(f" {name}=")[2].split()[0]

    def trains(self, start: int) -> None:
        """Wait until this start of the job (0, 1, ...) has made some steps."""
        wait_until(lambda: self.fact("Restarts") == str(start), PATIENCE, f"start {start}")
        wait_until(self.began, PATIENCE, f"its first step; {self.log()}")
        before = len(self.losses())
        wait_until(lambda: len(self.losses()) >= before + STEPS, PATIENCE, "steps")

    def began(self) -> bool:
        return self.fact("JobState") == "RUNNING" and "step " in self.log().rpartition("meet at")[2]

    def ranks(self, *settings: str) -> list[int]:
        """The processes that train."""
        found = processes_with(f"SLURM_JOB_ID={self.job}", *settings)
        return [one.pid for one in found if "RANK" in one.environ()]


@pytest.fixture(scope="module")
def run(
    on_cluster: Cluster, token_shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClusterRun]:
    folder = tmp_path_factory.mktemp("work")
    (folder / "run.yaml").write_bytes(QUICKSTART.read_bytes())
    (folder / "shards").symlink_to(token_shards)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield ClusterRun(on_cluster, SETTINGS, "through")


def test_the_time_limit_saves_and_requeues(run: ClusterRun) -> None:
    two = ("--nodes", "2", "--gpus-per-node", "0", "--cpus-per-node", str(CORES))
    run.submit(*two, "--time", "1", "--lead", "50")
    wait_until(lambda: run.fact("Restarts") == "1", PATIENCE, "the requeue at the time limit")
    run.cluster.ask("scontrol", "update", f"JobId={run.job}", "TimeLimit=30")
    assert "interrupted: requeued, for the 1st time" in run.log()
    assert "2 nodes, 1 processes each" in run.log()


def test_a_signal_to_one_rank_stops_all_and_requeues(run: ClusterRun) -> None:
    run.trains(start=1)
    os.kill(run.ranks("RANK=1")[0], signal.SIGUSR1)
    wait_until(lambda: run.fact("Restarts") == "2", PATIENCE, "the requeue")
    assert "interrupted: requeued, for the 2nd time" in run.log()


def test_preemption_saves_and_requeues(run: ClusterRun) -> None:
    run.trains(start=2)
    urgent = ["sbatch", "--parsable", "--partition=urgent", "--nodes=2", "--exclusive"]
    job = run.cluster.ask(*urgent, "--output=/dev/null", "--wrap=true")
    wait_until(lambda: run.fact("Restarts") == "3", PATIENCE, "the requeue")
    assert run.cluster.state_at_end(job, PATIENCE) == "COMPLETED"
    assert "interrupted: requeued, for the 3rd time" in run.log()


def test_the_loss_of_a_node_is_noticed_and_the_run_goes_on(run: ClusterRun) -> None:
    run.trains(start=3)
    run.cluster.lose_node("n2")
    wait_until(lambda: run.fact("Restarts") == "4", PATIENCE, "the requeue")
    run.cluster.mend_node("n2")
    run.trains(start=4)
    wait_until(lambda: not run.ranks("SLURM_RESTART_COUNT=3"), PATIENCE, "the end of its ranks")


def test_a_users_cancel_saves_and_does_not_requeue(run: ClusterRun) -> None:
    reached = len(run.losses())
    run.cluster.ask("scancel", run.job)
    assert run.cluster.state_at_end(run.job, PATIENCE) == "CANCELLED"
    wait_until(lambda: "SLURM ends this start itself" in run.log(), 20, "the job's last line")
    assert newest_step(run) >= reached


def test_on_one_node_instead_of_two_and_beside_another_run_it_goes_on(run: ClusterRun) -> None:
    beside = ClusterRun(run.cluster, run.settings, "beside")
    one = ("--nodes", "1", "--gpus-per-node", "0", "--time", "10", "--sbatch=--nodelist=n1")
    run.submit(*one, "--nproc-per-node", "2", "--cpus-per-node", str(2 * CORES))
    beside.submit(*one, "--nproc-per-node", "1", "--cpus-per-node", str(CORES))
    run.trains(start=0)
    beside.trains(start=0)
    assert run.fact("NodeList") == beside.fact("NodeList") == "n1"
    for each in (run, beside):
        (each.folder / "STOP").touch()
    assert run.cluster.state_at_end(run.job, PATIENCE) == "COMPLETED"
    assert run.cluster.state_at_end(beside.job, PATIENCE) == "COMPLETED"
    assert "resumed run through" in run.log() and "new run beside" in beside.log()


def test_its_curve_is_that_of_a_run_on_two_machines_that_nothing_happened_to(
    run: ClusterRun,
) -> None:
    through = run.losses()
    settings = ("run.name=peaceful", *SETTINGS, f"train.steps={len(through)}")
    machines = [launched_on(number, *settings) for number in range(2)]
    said = [machine.communicate(timeout=600)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    peaceful = ClusterRun(run.cluster, SETTINGS, "peaceful").losses()
    assert through == pytest.approx(peaceful, rel=1e-6)


def launched_on(number: int, *settings: str) -> subprocess.Popen[str]:
    """`segue launch` as on one of two machines, which here are one."""
    place = ("--nodes", "2", "--node-rank", str(number), "--head", "127.0.0.1", "--port", "29613")
    return subprocess.Popen(
        [sys.executable, "-m", "launch.main", "launch", "run.yaml", *settings, *place],
        env={**os.environ, "SLURM_CPUS_PER_TASK": str(CORES)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def newest_step(run: ClusterRun) -> int:
    names = [path.parent.name for path in run.folder.glob("checkpoints/*/COMMITTED")]
    return max(int(name.partition("_step_")[2]) for name in names)
