"""``segue submit-pack``: check a packing, make its jobs, hand them to sbatch."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shards.errors import UserError
from slurm.lead import seconds_of
from slurm.pack_script import LEAD_SECONDS, MERGE, PACK, PackJob, render_merge, render_pack
from slurm.programs import answer
from slurm.site import SiteConfig
from slurm.snapshot import new_folder
from slurm.submission import submit_from
from slurm.submit import sbatch

if TYPE_CHECKING:
    from shards.pack.config import PackConfig


@dataclass(frozen=True)
class PackResources:
    """What each task of the array reserves on one node. ``time`` is in sbatch's notation."""

    tasks: int
    cpus_per_task: int
    gpus_per_task: int
    time: str


@dataclass(frozen=True)
class SubmittedPack:
    """The ids of the array and of the merge, both in the queue."""

    array: str
    merge: str


def prepare_pack(
    source: Path,
    out: Path,
    config: PackConfig,
    kind: str | None,
    resources: PackResources,
    site: SiteConfig,
) -> PackJob:
    """The jobs that pack ``source`` into ``out``, checked as far as that is quick.

    UserError as `shards.pack.job.check`, and for a time limit that leaves no time to pack.
    """
    from shards.pack.job import check

    recognised = check(source, out, config, kind)
    # SLURM sends a warning up to a minute early.
    if seconds_of(resources.time) <= 2 * LEAD_SECONDS:
        raise UserError(
            f"--time {resources.time}: a task is warned up to {2 * LEAD_SECONDS} s before its end, "
            "which leaves no time to pack; give it 00:10:00 or more"
        )
    folder = out.absolute()
    return PackJob(
        source=source.absolute(),
        out=folder,
        kind=recognised,
        submitted=new_folder(folder),
        working_folder=Path.cwd(),
        python=Path(sys.executable),
        tasks=resources.tasks,
        cpus_per_task=resources.cpus_per_task,
        gpus_per_task=resources.gpus_per_task,
        time=resources.time,
        site=site,
    )


def submit_prepared(job: PackJob, config: PackConfig) -> SubmittedPack:
    """Keep scripts, config and code in OUT and submit the scripts, both or neither.

    UserError as `sbatch`; where SLURM has refused, nothing of this is left.
    """
    scripts = {PACK: render_pack(job), MERGE: render_merge(job)}
    return submit_from(job.submitted, scripts, config, _submit)


def _submit(folder: Path) -> SubmittedPack:
    # Held, the array does not begin before the merge is in the queue.
    array = sbatch(folder / PACK, "--hold")
    jobs = [array]
    try:
        jobs.append(sbatch(folder / MERGE, f"--dependency=afterok:{array},singleton"))
        answer("scontrol", "release", array)
    except BaseException as error:
        _cancel(jobs, error)
        raise
    return SubmittedPack(*jobs)


def _cancel(jobs: list[str], why: BaseException) -> None:
    try:
        answer("scancel", *jobs)
    except UserError as error:
        raise UserError(
            f"{why}; and {error}, so that 'scancel {' '.join(jobs)}' is yours to do"
        ) from why
