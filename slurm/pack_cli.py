"""``segue submit-pack``: pack on a SLURM cluster."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from shards.pack.cli import ConfigFile, Features, Kind, Out, Settings, Source
from slurm.options import (
    Account,
    Constraint,
    Container,
    DryRun,
    Further,
    Mail,
    Memory,
    Partition,
    Qos,
    Requeues,
    Time,
)

if TYPE_CHECKING:
    from slurm.pack_script import PackJob
    from slurm.pack_submit import SubmittedPack


def submit_pack(
    source: Source,
    out: Out,
    tasks: Annotated[int, typer.Option(min=1, help="Parts, each a task of a job array.")],
    settings: Settings = None,
    features: Features = None,
    kind: Kind = None,
    config: ConfigFile = None,
    cpus_per_task: Annotated[
        int, typer.Option(min=1, help="Cores of each task, a worker process for each.")
    ] = 8,
    gpus_per_task: Annotated[
        int, typer.Option(min=0, help="GPUs of each task, for units.hubert, units.sovits and bert.")
    ] = 0,
    time: Time = None,
    partition: Partition = None,
    account: Account = None,
    qos: Qos = None,
    constraint: Constraint = None,
    mem: Memory = None,
    mail: Mail = None,
    container: Container = None,
    sbatch: Further = None,
    max_requeues: Requeues = None,
    dry_run: DryRun = False,
) -> None:
    """Submit the packing of a corpus as a job array, and its merge; again to go on."""
    from shards.pack.cli import chosen_config
    from slurm.pack_script import render_merge, render_pack
    from slurm.pack_submit import PackResources, prepare_pack, submit_prepared
    from slurm.site import load_site
    from slurm.submit import given

    site = load_site().overridden(
        {
            "partition": partition,
            "account": account,
            "qos": qos,
            "constraint": constraint,
            "mem": mem,
            "mail": mail,
            "container": container,
            "sbatch": sbatch,
            "max_requeues": max_requeues,
        }
    )
    limit = given("--time", time, site.time)
    chosen = chosen_config(config, settings or [], features)
    resources = PackResources(tasks, cpus_per_task, gpus_per_task, limit)
    job = prepare_pack(source, out, chosen, kind, resources, site)
    if dry_run:
        typer.echo(f"{render_pack(job)}\n{render_merge(job)}", nl=False)
        return
    _tell(job, submit_prepared(job, chosen))


def _tell(job: PackJob, submitted: SubmittedPack) -> None:
    array, merge, logs = submitted.array, submitted.merge, job.submitted.parent
    typer.echo(
        f"submitted jobs {array} ({job.tasks} parts) and {merge} (their merge), scripts in "
        f"{job.submitted}"
    )
    typer.echo(
        f"follow them: squeue --jobs={array},{merge}; tail -F "
        f"{shlex.quote(str(logs / f'merge-{merge}.out'))}; each part prints into "
        f"{logs / f'pack-{array}_PART.out'}"
    )
