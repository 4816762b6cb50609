"""``segue submit``, ``submit-pack``, ``jobs``, ``logs`` and ``cancel``: on a SLURM cluster."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from pretrain.arguments import ConfigFile, Overrides
from shards.commands import commands
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
from slurm.pack_cli import submit_pack

app = commands("Pack and train on a SLURM cluster.")


@app.command()
def submit(
    config: ConfigFile,
    overrides: Overrides = None,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes to reserve.")] = 1,
    gpus_per_node: Annotated[
        int | None, typer.Option(min=0, help="GPUs of each node; 0 trains on CPU.")
    ] = None,
    time: Time = None,
    nproc_per_node: Annotated[
        int | None, typer.Option(min=1, help="Processes of each node; by default one per GPU.")
    ] = None,
    cpus_per_node: Annotated[
        int | None,
        typer.Option(min=1, help="Cores of each node; by default one per process and worker."),
    ] = None,
    partition: Partition = None,
    account: Account = None,
    qos: Qos = None,
    constraint: Constraint = None,
    mem: Memory = None,
    mail: Mail = None,
    container: Container = None,
    sbatch: Further = None,
    array: Annotated[
        str | None,
        typer.Option(help="Tasks that go on one after the other: 1-5.", metavar="NUMBERS"),
    ] = None,
    dependency: Annotated[
        str | None, typer.Option(help="Jobs to wait for, as sbatch writes it: afterok:4711.")
    ] = None,
    lead: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Seconds before the time limit to stop in."),
    ] = None,
    max_requeues: Requeues = None,
    max_failures: Annotated[
        int | None, typer.Option(min=0, help="Starts again after failures.")
    ] = None,
    exclude_failed: Annotated[
        bool | None,
        typer.Option("--exclude-failed", help="Start again without the node that failed."),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Submit a run to SLURM; the same command resumes it."""
    from slurm.script import Resources, render
    from slurm.site import load_site
    from slurm.submit import given, prepare, submit_job

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
            "lead": lead,
            "max_requeues": max_requeues,
            "max_failures": max_failures,
            "exclude_failed": exclude_failed,
        }
    )
    gpus = given("--gpus-per-node", gpus_per_node, site.gpus_per_node)
    resources = Resources(
        nodes=nodes,
        gpus_per_node=gpus,
        processes_per_node=nproc_per_node or max(1, gpus),
        cpus_per_node=cpus_per_node or 0,
        time=given("--time", time, site.time),
        array=array,
        dependency=dependency,
    )
    prepared = prepare(config, overrides or [], resources, site)
    if prepared.word:
        typer.echo(prepared.word, err=True)
    if dry_run:
        typer.echo(render(prepared.job), nl=False)
        return
    job_id, job = submit_job(prepared), prepared.job
    typer.echo(f"submitted job {job_id}, script {job.submitted / 'job.sh'}")
    typer.echo(f"follow it: segue logs {shlex.quote(str(job.folder))} -f")


app.command()(submit_pack)

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
