"""The run that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shards.errors import UserError
from slurm.queue import QueuedJob, jobs_of_user
from slurm.run_folder import has_trained

RUNS = Path("runs")


def find_run(named: str) -> Path:
    """The folder of a run: that folder itself, one of its name in runs/, or a queued job's.

    UserError where there is none, or where queued jobs of several runs have the name.
    """
    for folder in (Path(named), RUNS / named):
        if is_run(folder):
            return folder
    return _by_job(named, _queue(named))


def is_run(folder: Path) -> bool:
    """Whether a run has been started in this folder or submitted from it."""
    return has_trained(folder) or any(folder.glob("slurm/*/job.sh"))


def _queue(named: str) -> list[QueuedJob]:
    try:
        return jobs_of_user()
    except UserError as error:
        raise UserError(
            f"RUN: {named} is no run's folder and no run in {RUNS}/, and the queue could not be "
            f"asked: {error}"
        ) from error


def _by_job(named: str, jobs: Sequence[QueuedJob]) -> Path:
    folders = sorted({job.run for job in jobs if job.run and job.name == named})
    if not folders:
        raise UserError(
            f"RUN: {named} is no run's folder, no run in {RUNS}/ and no run's job in the queue; "
            "'segue jobs' lists the runs"
        )
    if folders[1:]:
        raise UserError(
            f"RUN: jobs named {named} train in {', '.join(map(str, folders))}; name one of these"
        )
    return folders[0]
