"""``segue cancel``: end a run's jobs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from pretrain.stop import FILE_NAME as STOP
from shards.errors import UserError
from slurm.queue import QueuedJob, cancel_jobs, jobs_of, jobs_of_user


def cancel_run(run: Path) -> Iterator[str]:
    """End all jobs of the run, says which; UserError where there are none."""
    jobs = _jobs(run)
    cancel_jobs(jobs)
    for job in jobs:
        if job.waits:
            yield f"job {job.id} was {job.standing}: cancelled"
        else:
            yield (
                f"job {job.id} was {job.standing}: cancelled and not requeued; it saves if "
                "the site's KillWait leaves it the time"
            )


def save_and_stop(run: Path) -> Iterator[str]:
    """Let the run save and end by itself, and end what waits to go on; as `cancel_run`."""
    jobs = _jobs(run)
    waiting = [job for job in jobs if job.waits]
    if waiting:
        cancel_jobs(waiting)
        yield from (f"job {job.id} was {job.standing}: cancelled" for job in waiting)
    working = [job for job in jobs if not job.waits]
    if working:
        (run / STOP).touch()
        for job in working:
            yield (
                f"job {job.id} is {job.standing}: {run / STOP} asks it to save after its "
                "current step and end, without being requeued"
            )


def _jobs(run: Path) -> Sequence[QueuedJob]:
    jobs = jobs_of(run, jobs_of_user())
    if not jobs:
        raise UserError(
            f"RUN: no job of {run} is in the queue; a run that trains without SLURM is stopped by: "
            f"touch {shlex.quote(str(run / STOP))}"
        )
    return jobs
