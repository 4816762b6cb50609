"""``segue jobs``, ``logs`` and ``cancel`` on a real SLURM."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from two_nodes import Cluster, wait_until
from typer.testing import CliRunner

from shards.errors import UserError
from slurm.cli import app
from slurm.find import find_run
from slurm.logs import follow, newest_log
from slurm.queue import QueuedJob, jobs_of, jobs_of_user

SLEEPS = "echo begun\nsleep 300\n"


@pytest.fixture
def queue(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster as the one that our commands talk to, from a folder of the user's."""
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    monkeypatch.setenv("SQUEUE_FORMAT", "%i")  # a user's taste
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    monkeypatch.chdir(tmp_path)
    return cluster


def submit(queue: Cluster, run: Path, text: str, *options: str) -> str:
    """The id of a job of the run, laid out as `segue submit` does."""
    script = run / "slurm" / f"2026010{len(list(run.glob('slurm/*/')))}" / "job.sh"
    script.parent.mkdir(parents=True)
    script.write_text(f"#!/bin/bash\n{text}")
    log = str(run).replace("%", "%%") + "/slurm/job-%j.out"
    once = ("--dependency=singleton", "--open-mode=append", "--requeue", "--time=5")
    return queue.ask(
        "sbatch", "--parsable", f"--job-name={run.name}", f"--output={log}", *once, *options, script
    )


def segue(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def shown(run: Path) -> dict[str, Any]:
    """What `segue jobs` says of a run."""
    found = json.loads(segue("jobs", "--json").stdout)
    return next(one for one in found if one["run"] == str(run))


def in_queue(run: Path) -> dict[str, str]:
    return {job.id: job.state for job in jobs_of(run, jobs_of_user())}


def wait_for_text(run: Path, text: str) -> None:
    def is_there() -> bool:
        log = newest_log(run)
        return log is not None and text in log.read_text()

    wait_until(is_there, 60, f"{text} in a log of {run}")


def test_a_run_that_trains_and_its_next_job(queue: Cluster, tmp_path: Path) -> None:
    run = tmp_path / "work" / "base ö 100%"
    first, second = submit(queue, run, SLEEPS), submit(queue, run, SLEEPS)
    wait_for_text(run, "begun")

    found = shown(run)
    assert (found["run"], found["state"], found["restarts"]) == (str(run), "running", 0)
    assert [job["id"] for job in found["jobs"]] == [first, second]
    assert [job["reason"] for job in found["jobs"]] == ["", "Dependency"]
    assert found["jobs"][0]["started"] and found["jobs"][0]["limit_seconds"] == 300
    assert f"{first} +1" in segue("jobs").stdout

    assert find_run(run.name) == find_run(str(run)) == run
    assert segue("logs", run.name, "-n", "1").stdout == "begun\n"

    said = segue("cancel", run.name, "--save").stdout.splitlines()
    assert said[0] == f"job {second} was pending (Dependency): cancelled"
    assert said[1].startswith(f"job {first} is running: {run / 'STOP'} asks it to save")
    assert (run / "STOP").exists()
    assert in_queue(run) == {first: "RUNNING"}

    assert f"job {first} was running: cancelled" in segue("cancel", str(run)).stdout
    assert queue.state_at_end(first, 30) == "CANCELLED"
    refused = segue("cancel", str(run)).exception
    assert isinstance(refused, UserError)
    assert str(refused).endswith(f"is stopped by: touch '{run}/STOP'")


def test_a_requeued_job_waits_and_has_restarted(queue: Cluster, tmp_path: Path) -> None:
    run = tmp_path / "again"
    job_id = submit(queue, run, SLEEPS)
    wait_for_text(run, "begun")
    queue.ask("scontrol", "requeue", job_id)
    wait_until(lambda: in_queue(run) == {job_id: "PENDING"}, 30, "the requeue")
    found = shown(run)
    assert found["restarts"] == 1
    assert found["state"].startswith("pending (")
    assert segue("cancel", str(run), "--save").exit_code == 0
    assert not (run / "STOP").exists()  # nobody is there to answer it
    assert in_queue(run) == {}


def test_a_log_is_followed_into_the_next_job(queue: Cluster, tmp_path: Path) -> None:
    run = tmp_path / "followed"
    for text in ("echo a; sleep 1; echo b", "echo c; sleep 1; echo d"):
        submit(queue, run, f"{text}\n")
    out = io.BytesIO()
    follow(run, 10, out, looks=0.05)
    assert out.getvalue() == b"a\nb\nc\nd\n"
    assert in_queue(run) == {}


def test_tasks_of_an_array_are_cancelled_together(queue: Cluster, tmp_path: Path) -> None:
    run = tmp_path / "array"
    array = submit(queue, run, SLEEPS, "--array=0-2%1", "--dependency=")
    wait_until(lambda: "RUNNING" in in_queue(run).values(), 30, "the first task")
    found: list[QueuedJob] = jobs_of(run, jobs_of_user())
    assert [job.id for job in found] == [f"{array}_{task}" for task in range(3)]
    assert [job.array_task for job in found] == [0, 1, 2]
    assert len(segue("cancel", str(run)).stdout.splitlines()) == 3
    wait_until(lambda: not in_queue(run), 30, "the tasks' end")
