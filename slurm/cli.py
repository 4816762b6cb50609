"""``segue submit``, ``jobs``, ``logs`` and ``cancel``: train on a SLURM cluster."""

from __future__ import annotations

from contextlib import suppress
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


Run = Annotated[
    str,
    typer.Argument(help="A run's folder, a name in runs/, or a queued job's.", metavar="RUN"),
]


@app.command()
def jobs(
    runs: Annotated[Path, typer.Argument(help="Folder of runs.", metavar="RUNS_DIR")] = Path(
        "runs"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list of objects.")] = False,
) -> None:
    """List your runs in the queue and the runs in a folder, and how they stand."""
    from time import time

    from shards.errors import UserError
    from slurm import status_table
    from slurm.queue import QueuedJob, jobs_of_user
    from slurm.status import statuses

    queued: list[QueuedJob] = []
    try:
        queued = jobs_of_user()
    except UserError as error:
        typer.echo(f"without the queue: {error}", err=True)
    found = statuses(runs, queued, time())
    if as_json:
        typer.echo(status_table.as_json(found))
    elif found:
        status_table.print_table(found, runs)
    else:
        typer.echo(f"no run in {runs} and none in the queue")


@app.command()
def logs(
    run: Run,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on until its jobs have left the queue.")
    ] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="Lines to begin with.")] = 20,
) -> None:
    """Print the end of what a run's newest job wrote."""
    import sys

    from slurm import logs
    from slurm.find import find_run

    folder = find_run(run)
    if not follow:
        logs.show_end(folder, lines, sys.stdout.buffer)
        return
    with suppress(KeyboardInterrupt):  # how one leaves
        logs.follow(folder, lines, sys.stdout.buffer)


@app.command()
def cancel(
    run: Run,
    save: Annotated[
        bool, typer.Option("--save", help="Let the running job save and end by itself.")
    ] = False,
) -> None:
    """Take a run's jobs out of the queue."""
    from slurm.cancel import cancel_run, save_and_stop
    from slurm.find import find_run

    end = save_and_stop if save else cancel_run
    for said in end(find_run(run)):
        typer.echo(said)
