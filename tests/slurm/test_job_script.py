"""What a job script does when its processes end, on a real SLURM; a program stands in for them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from two_nodes import Cluster, wait_until

from slurm.script import Job, Resources, render
from slurm.site import SiteConfig
from slurm.snapshot import ROOT
from slurm.submit import sbatch

FAILING_HERE = f"""\
PYTHONPATH={ROOT} {sys.executable} -c '
import sys
from launch.failure import *
host, job, start = place()
how = dict(rank=3, pid=42, exit_code=-9, step=7, lines=("out of luck",), time=0.0)
keep(Failure(host=host, job=job, start=start, **how), Path(sys.argv[1]))' "$3"
exit 1
"""
ONCE = "[[ ${SLURM_RESTART_COUNT:-0} == 0 ]] || exit 0\n"


@dataclass(frozen=True)
class Way:
    """What the processes of a job do, what the job asks for, and what must come of it."""

    does: str
    state: str
    restarts: int
    says: str
    nodes: int = 2
    site: SiteConfig = field(default_factory=SiteConfig)
    array: str | None = None


WAYS = {
    "interrupted": Way(ONCE + "exit 75", "COMPLETED", 1, "interrupted: requeued, for the 1st"),
    "too often": Way(
        "exit 75",
        "FAILED",
        1,
        "not requeued: that was done 1 times",
        site=SiteConfig(max_requeues=1),
    ),
    "told to stop": Way(
        'touch "$3/STOP"; exit 75', "FAILED", 0, "not requeued: a STOP file asks the run to end"
    ),
    "mistake": Way("exit 2", "FAILED", 0, "not requeued: mend the mistake"),
    "one failure": Way(
        ONCE + FAILING_HERE,
        "COMPLETED",
        1,
        " (pid 42) was ended by SIGKILL\nits last lines were:\n    out of luck",
        nodes=1,
    ),
    "twice the same": Way("exit 1", "FAILED", 1, "it failed twice in a row after step 0"),
    "no more failures": Way(
        "exit 1", "FAILED", 0, "it failed 1 times", site=SiteConfig(max_failures=0)
    ),
    "elsewhere": Way(
        ONCE + FAILING_HERE,
        "COMPLETED",
        1,
        "requeued without n",
        nodes=1,
        site=SiteConfig(exclude_failed=True),
    ),
}


@pytest.fixture(scope="module")
def jobs(on_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The jobs of all ways, at once in the queue: their ids."""
    root = tmp_path_factory.mktemp("jobs")
    return {name: submitted(root / name, way) for name, way in WAYS.items()}


ARRAY = Way(
    "((SLURM_ARRAY_TASK_ID + ${SLURM_RESTART_COUNT:-0} == 3)) || exit 75", "", 0, "", array="1-2"
)


def submitted(folder: Path, way: Way) -> str:
    job = job_in(folder, way)
    job.submitted.mkdir(parents=True)
    job.python.write_text(
        f'#!/bin/bash\n[[ $2 == slurm.after ]] && exec {sys.executable} "$@"\n{way.does}\n'
    )
    job.python.chmod(0o755)
    (job.submitted / "code").symlink_to(ROOT)
    (job.submitted / "job.sh").write_text(render(job))
    return sbatch(job.submitted / "job.sh")


def job_in(folder: Path, way: Way) -> Job:
    resources = Resources(way.nodes, 0, 1, 1, time="10", lead=60, array=way.array)
    site = way.site
    return Job(
        name=folder.name.replace(" ", "-"),
        folder=folder,
        submitted=folder / "slurm" / "20260102-030405",
        working_folder=folder.parent,
        python=folder / "python",
        accelerate_config="zero2.yaml",
        resources=resources,
        site=site,
    )


@pytest.mark.parametrize("name", WAYS)
def test_a_job_ends_or_starts_again(name: str, jobs: dict[str, str], on_cluster: Cluster) -> None:
    way, job_id = WAYS[name], jobs[name]
    assert on_cluster.state_at_end(job_id, 90) == way.state
    shown = on_cluster.ask("scontrol", "show", "job", job_id)
    log = Path(shown.partition("StdOut=")[2].splitlines()[0]).read_text()
    assert f"Restarts={way.restarts} " in shown, log
    assert way.says in log
    assert log.count("meet at 127.0.0.1:") == way.restarts + 1
    if name == "elsewhere":
        assert {value_of("ExcNodeList", shown), value_of(" NodeList", shown)} == {"n1", "n2"}


def test_of_an_array_the_next_task_goes_on_and_the_last_is_requeued(
    on_cluster: Cluster, tmp_path: Path
) -> None:
    submitted(tmp_path, ARRAY)
    name = f"--name={tmp_path.name}"
    wait_until(lambda: not on_cluster.ask("squeue", "--noheader", name), 90, "the array's end")
    first, last = (path.read_text() for path in sorted(tmp_path.glob("slurm/job-*.out")))
    assert "interrupted: the next task of the array goes on" in first
    assert first.count("meet at") == 1
    assert "interrupted: requeued, for the 1st time" in last
    assert last.count("meet at") == 2


def value_of(name: str, shown: str) -> str:
    return shown.partition(f"{name}=")[2].split()[0]
