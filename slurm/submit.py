"""``segue submit``: check a run, make its job, hand it to sbatch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from shards.errors import UserError
from slurm.script import Job, Resources, render

if TYPE_CHECKING:
    from shards.dataset import DataConfig


@dataclass(frozen=True)
class Submitted:
    """A job in the queue, and the file it will print into."""

    job_id: str
    log: Path


def job_for(config_path: Path, overrides: Sequence[str], resources: Resources) -> Job:
    """The job that trains ``config_path``, checked as far as a node without GPUs can.

    ``resources.cpus_per_node`` 0 takes a core for each process and each loader worker. UserError
    for what would stop the run before its first step, whether or not this machine has GPUs.
    """
    from launch.accelerate import accelerate_config
    from pretrain.config import load
    from pretrain.preflight import check

    config = load(config_path, overrides)
    device = _device(config.device, resources)
    ready = check(config, world_size=resources.world_size, device=device, environ={})
    return Job(
        name=config.run.name,
        folder=config.run.folder.absolute(),
        working_folder=Path.cwd(),
        programs=Path(sys.executable).parent,
        accelerate_config=accelerate_config(ready.zero).absolute(),
        config=config_path.absolute(),
        overrides=(*overrides, f"device={device}"),
        resources=replace(resources, cpus_per_node=_cores(resources, config.data)),
    )


def submit_job(job: Job) -> Submitted:
    """Write the script into the run's folder and submit it.

    UserError where sbatch is not installed or refuses, with its reason.
    """
    script = job.folder / "job.sh"
    text = render(job)
    job.folder.mkdir(parents=True, exist_ok=True)
    script.write_text(text, encoding="utf-8")
    job_id = sbatch(script)
    return Submitted(job_id, job.folder / f"slurm-{job_id}.out")


def sbatch(script: Path) -> str:
    """Submit a script; returns the job id. UserError as ``submit_job``."""
    try:
        done = subprocess.run(
            ["sbatch", "--parsable", script], check=False, capture_output=True, text=True
        )
    except FileNotFoundError as error:
        raise UserError(
            "sbatch is not on PATH; run `segue submit` on a login node of a SLURM cluster, or "
            "look at the script with --dry-run"
        ) from error
    if done.returncode != 0:
        raise UserError(f"sbatch refused {script}: {_reason(done.stderr)}")
    sys.stderr.write(done.stderr)  # a site's remarks on a job that it took
    return done.stdout.strip().partition(";")[0]  # with several clusters: id;cluster


def _reason(said: str) -> str:
    lines = [line.removeprefix("sbatch: ").strip() for line in said.splitlines()]
    words = [line.removeprefix("error: ").removeprefix("fatal: ") for line in lines if line]
    return "; ".join(words) or "it gave no reason"


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
