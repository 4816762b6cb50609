"""The job scripts that pack a corpus: slurm/pack.sh and slurm/merge.sh filled in."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slurm.directives import directive
from slurm.script import common, container, template
from slurm.site import SiteConfig

PACK, MERGE = "pack.sh", "merge.sh"
LEAD_SECONDS = 60
"""A warning this long before the time limit: ending takes a moment, SLURM's clock is coarse."""


@dataclass(frozen=True)
class PackJob:
    """The packing of a corpus as an array of ``tasks`` tasks, and the merge. Paths are absolute.

    ``submitted`` is the folder of this submission, with the code, the config and the scripts;
    ``time`` is in sbatch's notation.
    """

    source: Path
    out: Path
    kind: str
    submitted: Path
    working_folder: Path
    python: Path
    tasks: int
    cpus_per_task: int
    gpus_per_task: int
    time: str
    site: SiteConfig


def render_pack(job: PackJob) -> str:
    """The array's script; UserError for a value that sbatch cannot read from a script."""
    gpus = [directive("gpus-per-task", str(job.gpus_per_task))] if job.gpus_per_task else []
    corpus = job.source if job.source.is_dir() else job.source.parent
    return template(PACK).substitute(
        _common(job, "pack-%A_%a.out", gpus),
        array=directive("array", f"1-{job.tasks}"),
        signal=directive("signal", f"B:USR1@{LEAD_SECONDS}"),
        max_requeues=job.site.max_requeues,
        tasks=job.tasks,
        source=shlex.quote(str(job.source)),
        kind=shlex.quote(job.kind),
        **_inside(job, [job.working_folder, job.out, corpus], gpus=bool(gpus)),
    )


def render_merge(job: PackJob) -> str:
    """The merge's script; as `render_pack`."""
    return template(MERGE).substitute(
        _common(job, "merge-%j.out", []), **_inside(job, [job.working_folder, job.out], gpus=False)
    )


def _common(job: PackJob, log: str, gpus: Sequence[str]) -> dict[str, str]:
    """What both scripts say; ``log`` is the name of what they print into, with sbatch's signs."""
    said = common(
        job,
        name=f"pack-{job.out.name}",
        log=(job.submitted.parent, log),
        cores=job.cpus_per_task,
        time=job.time,
        gpus=gpus,
    )
    return said | {"out": shlex.quote(str(job.out))}


def _inside(job: PackJob, needed: Sequence[Path], *, gpus: bool) -> dict[str, str]:
    return container(job.site, list(dict.fromkeys(needed)), gpus)
