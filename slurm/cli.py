"""``segue submit``: train on a SLURM cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shards.commands import commands

app = commands("Train on a SLURM cluster.")


@app.callback()
def slurm() -> None:
    """Train on a SLURM cluster."""
    # With a callback, typer asks for a command's name even where there is only one.


@app.command()
def submit(
    config: Annotated[Path, typer.Argument(help="A run's YAML file.", metavar="CONFIG")],
    nodes: Annotated[int, typer.Option(min=1, help="Nodes to reserve.")],
    gpus_per_node: Annotated[int, typer.Option(min=0, help="GPUs of each node; 0 trains on CPU.")],
    time: Annotated[str, typer.Option(help="Time limit as sbatch writes it: 24:00:00, 2-00:00.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change.", metavar="KEY.SUB=VALUE")
    ] = None,
    nproc_per_node: Annotated[
        int | None, typer.Option(min=1, help="Processes of each node; by default one per GPU.")
    ] = None,
    cpus_per_node: Annotated[
        int | None,
        typer.Option(min=1, help="Cores of each node; by default one per process and worker."),
    ] = None,
    partition: Annotated[str | None, typer.Option(help="Partition of the cluster.")] = None,
    account: Annotated[str | None, typer.Option(help="Account that pays.")] = None,
    qos: Annotated[str | None, typer.Option(help="Quality of service.")] = None,
    constraint: Annotated[str | None, typer.Option(help="Features nodes must have.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the job script only.")] = False,
) -> None:
    """Submit a run to SLURM; the same command resumes it."""
    from slurm.script import Resources, render
    from slurm.submit import job_for, submit_job

    resources = Resources(
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        processes_per_node=nproc_per_node or max(1, gpus_per_node),
        cpus_per_node=cpus_per_node or 0,
        time=time,
        partition=partition,
        account=account,
        qos=qos,
        constraint=constraint,
    )
    job = job_for(config, overrides or [], resources)
    if dry_run:
        typer.echo(render(job), nl=False)
        return
    submitted = submit_job(job)
    typer.echo(f"submitted job {submitted.job_id}, script {job.folder / 'job.sh'}")
    typer.echo(f"follow it: tail -F {submitted.log}")
