"""``segue submit``: check a run, make its job, hand it to sbatch."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from shards.errors import UserError
from slurm.lead import lead_of
from slurm.programs import RefusedError, answer
from slurm.script import SCRIPT, Job, Resources, render
from slurm.site import SiteConfig, site_files
from slurm.snapshot import new_folder
from slurm.submission import submit_from

if TYPE_CHECKING:
    from pretrain.config import Config
    from shards.dataset import DataConfig

_T = TypeVar("_T")
_UNANSWERED = re.compile("timed out|Zero Bytes|receive failure", re.IGNORECASE)
"""In the reasons sbatch gives where slurmctld may have taken the job, but its answer was lost."""


@dataclass(frozen=True)
class Prepared:
    """A job that can be submitted, the settled config of its run, and what the user should hear."""

    job: Job
    config: Config
    word: str


def prepare(
    config_path: Path, overrides: Sequence[str], resources: Resources, site: SiteConfig
) -> Prepared:
    """The job that trains ``config_path``, checked as far as a node without GPUs can.

    ``resources.cpus_per_node`` 0 takes a core for each process and each loader worker. UserError
    for what would stop the run before its first step, whether or not this machine has GPUs.
    """
    from pretrain.config import load
    from pretrain.preflight import check
    from pretrain.zero import accelerate_file

    config = load(config_path, overrides)
    config = config.model_copy(update={"device": _device(config.device, resources)})
    ready = check(config, world_size=resources.world_size, device=config.device, environ={})
    folder = config.run.folder.absolute()
    lead, word = lead_of(site.lead, resources.time, folder)
    cores = _cores(resources, config.data)
    job = Job(
        name=config.run.name,
        folder=folder,
        submitted=new_folder(folder),
        working_folder=Path.cwd(),
        python=Path(sys.executable),
        accelerate_config=accelerate_file(ready.zero),
        resources=replace(resources, cpus_per_node=cores, lead=lead),
        site=site,
    )
    return Prepared(job, config, word)


def given(option: str, said: _T | None, default: _T | None) -> _T:
    """What the command line or else the site's file says; UserError where neither does."""
    found = default if said is None else said
    if found is None:
        name = option.removeprefix("--").replace("-", "_")
        raise UserError(f"{option} is missing; give it, or set {name} in {site_files()[1]}")
    return found


def submit_job(prepared: Prepared) -> str:
    """Keep script, config and code in the run's folder and submit the script; returns the job id.

    UserError as `sbatch`; where it has refused, nothing of this is left.
    """
    job = prepared.job
    scripts = {SCRIPT: render(job)}
    return submit_from(
        job.submitted, scripts, prepared.config, lambda folder: sbatch(folder / SCRIPT)
    )


def sbatch(script: Path, *options: str) -> str:
    """Submit a script; returns the job id. ``options`` overrule it.

    RefusedError as `answer`; UserError where SLURM may have the job although sbatch did not say so.
    """
    perhaps = f"the job may be queued all the same; 'squeue --me' tells, its script is {script}"
    try:
        said = answer("sbatch", "--parsable", *options, script)
    except KeyboardInterrupt:
        typer.echo(f"interrupted: {perhaps}", err=True)
        raise
    except UserError as error:
        if isinstance(error, RefusedError) and not _UNANSWERED.search(str(error)):
            raise
        raise UserError(f"{error}: {perhaps}") from error
    # With several clusters it prints id;cluster.
    return said.strip().partition(";")[0]


def _cores(resources: Resources, data: DataConfig) -> int:
    cores, processes = resources.cpus_per_node, resources.processes_per_node
    if 0 < cores < processes:
        raise UserError(
            f"--cpus-per-node {cores} for {processes} processes; give each at least one core: "
            f"--cpus-per-node {processes}"
        )
    readers = data.workers * max(1, data.threads) if data.workers else data.threads
    return cores or processes * (1 + readers)


def _device(wanted: str, resources: Resources) -> str:
    """What the nodes train on, never left for them to find out."""
    gpus, processes = resources.gpus_per_node, resources.processes_per_node
    if wanted == "cpu" and gpus:
        raise UserError(
            f"device=cpu but --gpus-per-node {gpus} reserves GPUs; use --gpus-per-node 0 or "
            "device=cuda"
        )
    if wanted == "cuda" and not gpus:
        raise UserError(
            "device=cuda but --gpus-per-node 0 reserves no GPU; say how many a node has, or use "
            "device=cpu"
        )
    if gpus and processes > gpus:
        raise UserError(
            f"--nproc-per-node {processes} but --gpus-per-node {gpus}: a process needs a GPU of "
            f"its own; use --nproc-per-node {gpus}"
        )
    return "cuda" if gpus else "cpu"
