"""What squeue prints, as jobs."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from shards.errors import UserError
from slurm.queue import QueuedJob, jobs_of, jobs_of_user, parsed, seconds

# Printed by squeue 22.05.
SAID = (
    "2_1\x1f1\x1farr\x1f/work/runs/base ö%/slurm/20240101-000000/job.sh\x1fPENDING"
    "\x1fJobArrayTaskLimit\x1f0\x1f2026-11-22T18:22:28\x1fN/A\x1f0:00\x1f1-00:00:00\x1f\x1e\n"
    "1\x1fN/A\x1fä  name\x1f/work/runs/base ö%/slurm/20240101-000000/job.sh\x1fRUNNING"
    "\x1fNone\x1f3\x1f2026-11-22T18:22:28\x1f2026-11-22T18:22:29\x1f0:51\x1fUNLIMITED\x1fn[1-2]\x1e\n"
    "7\x1fN/A\x1fbash\x1f(null)\x1fRUNNING"
    "\x1fNone\x1f0\x1f2026-11-22T18:22:28\x1f2026-11-22T18:22:29\x1f0:51\x1f1:00:00\x1fn1\x1e\n"
)
RUN = Path("/work/runs/base ö%")


def test_every_field_of_a_waiting_task_and_a_running_job() -> None:
    task, job, _ = parsed(SAID)
    submitted = datetime(2026, 11, 22, 18, 22, 28).astimezone()
    assert task == QueuedJob(
        id="2_1",
        array_task=1,
        name="arr",
        run=RUN,
        state="PENDING",
        reason="JobArrayTaskLimit",
        restarts=0,
        submitted=submitted,
        started=None,
        elapsed_seconds=0,
        limit_seconds=86400,
        nodes="",
    )
    assert task.waits
    assert task.standing == "pending (JobArrayTaskLimit)"
    assert job == QueuedJob(
        id="1",
        array_task=None,
        name="ä  name",
        run=RUN,
        state="RUNNING",
        reason="",
        restarts=3,
        submitted=submitted,
        started=datetime(2026, 11, 22, 18, 22, 29).astimezone(),
        elapsed_seconds=51,
        limit_seconds=None,
        nodes="n[1-2]",
    )
    assert job.standing == "running"


def test_an_empty_queue_and_a_line_with_the_clusters_name() -> None:
    assert parsed("") == []
    assert [job.id for job in parsed(f"CLUSTER: east\n{SAID}")] == ["2_1", "1", "7"]


def test_jobs_of_a_run_come_with_those_that_have_nodes_first() -> None:
    jobs = parsed(SAID)
    assert [job.id for job in jobs_of(RUN, jobs)] == ["1", "2_1"]
    assert jobs_of(Path("/work/runs/other"), jobs) == []


@pytest.mark.parametrize(
    "script", ["/work/runs/base/job.sh", "slurm/1/job.sh", "/work/slurm/1/train.sh", "(null)"]
)
def test_other_scripts_belong_to_no_run(script: str) -> None:
    named = SAID.replace("/work/runs/base ö%/slurm/20240101-000000/job.sh", script)
    assert {job.run for job in parsed(named)} == {None}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        *(("0:51", 51), ("10:00", 600), ("1:00:00", 3600), ("2-03:00:01", 183601)),
        *(("UNLIMITED", None), ("Partition_Limit", None), ("INVALID", None), ("NOT_SET", None)),
    ],
)
def test_times_as_slurm_writes_them(written: str, expected: float | None) -> None:
    assert seconds(written) == expected


def test_without_slurm_it_is_said_where_to_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"^squeue is not on PATH; run this on a login node"):
        jobs_of_user()


def test_squeues_own_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "squeue"
    program.write_text(
        "#!/bin/sh\necho 'squeue: error: Unable to contact controller' >&2; exit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"^squeue refused: Unable to contact controller$"):
        jobs_of_user()


def test_a_job_that_is_requeued_waits_again() -> None:
    job = parsed(SAID)[1]
    assert not job.waits
    assert replace(job, state="REQUEUE_HOLD").waits
