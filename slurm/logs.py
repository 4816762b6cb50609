"""``segue logs``: what a run's jobs print."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import typer

from launch.last_lines import start_of_last_lines
from launch.step_log import LOG
from shards.errors import UserError
from slurm.queue import QueuedJob, jobs_of, jobs_of_user

LOOKS = 1.0
"""Seconds between looks at the file."""
ASKS = 10
"""Looks between questions to the queue, which all users share."""
PREFIX, SUFFIX = "job-", ".out"


def newest_log(run: Path) -> Path | None:
    """The file that a job of the run wrote to last."""
    logs = run.glob(f"slurm/{PREFIX}*{SUFFIX}")
    return max(logs, key=lambda log: log.stat().st_mtime, default=None)


def show_end(run: Path, lines: int, out: BinaryIO) -> None:
    """Copy the last lines of the newest log; UserError where there is none."""
    log = newest_log(run)
    if log is None:
        raise _without_log(run)
    _copy_end(log, lines, out)


def follow(run: Path, lines: int, out: BinaryIO, looks: float = LOOKS) -> None:
    """`show_end`, then all that is added, until no job of the run is in the queue.

    Where the job of the file has ended or waits and another has begun to write, that one's file
    follows. The files are opened anew at each look: a network file system shows what another
    machine has added only then. UserError without a log and a job, or where squeue is missing.
    """
    jobs, log, position = jobs_of(run, jobs_of_user()), newest_log(run), 0
    if log:
        position = _copy_end(log, lines, out)
    elif jobs:
        typer.echo(f"job {jobs[0].id} is {jobs[0].standing}", err=True)
    else:
        raise _without_log(run)
    rounds = 0
    while jobs:
        time.sleep(looks)
        rounds += 1
        if rounds % ASKS == 0:
            jobs = jobs_of(run, _asked_again(jobs))
        position = _copy(log, position, out) if log else 0
        newest = newest_log(run)
        if newest and newest != log and not _is_written(log, jobs):
            log, position = newest, _copy(newest, 0, out)
    typer.echo(f"no job of {run} is in the queue any more", err=True)


def _asked_again(jobs: Sequence[QueuedJob]) -> Sequence[QueuedJob]:
    try:
        return jobs_of_user()
    except UserError:  # SLURM's own restart takes minutes
        return jobs


def _is_written(log: Path | None, jobs: Sequence[QueuedJob]) -> bool:
    return log is not None and any(
        log.name == f"{PREFIX}{job.id}{SUFFIX}" and not job.waits for job in jobs
    )


def _copy_end(log: Path, lines: int, out: BinaryIO) -> int:
    typer.echo(f"==> {log} <==", err=True)
    with log.open("rb") as file:
        start = start_of_last_lines(file, lines)
    return _copy(log, start, out)


def _copy(log: Path, position: int, out: BinaryIO) -> int:
    with log.open("rb") as file:
        file.seek(position)
        while block := file.read(1 << 20):
            out.write(block)
        out.flush()
        return file.tell()


def _without_log(run: Path) -> UserError:
    steps = run / LOG
    instead = f"its steps are in {steps}" if steps.is_file() else "and it has no step yet"
    return UserError(f"RUN: {run} has no job log, it never ran under SLURM; {instead}")
