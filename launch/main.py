"""The ``segue`` command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from launch.doctor.cli import doctor
from pretrain.arguments import ConfigFile, Machines, Overrides
from pretrain.checkpoint.cli import app as checkpoint_app
from pretrain.estimate.cli import estimate
from pretrain.evaluate import evaluate
from pretrain.tune.cli import tune_batch
from pretrain.weights.cli import export, import_weights
from shards.cli import app as shards_app
from shards.commands import commands
from shards.errors import sentence
from slurm.cli import cancel, jobs, logs, submit
from slurm.pack_cli import submit_pack

app = commands("Continue the pretraining of speech-generation models on many GPUs.")

Processes = Annotated[
    int, typer.Option("--nproc", min=1, help="Processes: one per GPU, or any number on CPU.")
]


@app.command()
def quickstart(
    folder: Annotated[Path, typer.Argument(help="Where speech, shards and the run go.")] = Path(
        "quickstart"
    ),
    model: Annotated[
        Literal["gpt_sovits_s1", "seed_vc"], typer.Option(help="The model family.")
    ] = "gpt_sovits_s1",
    nproc: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default 2, or 1 on a single GPU.")
    ] = None,
) -> None:
    """Speak, pack and train on a small corpus; again to resume."""
    from launch.quickstart import quickstart as run

    raise typer.Exit(run(folder, model, nproc))


app.add_typer(shards_app, name="shards")
app.add_typer(checkpoint_app, name="checkpoint")


@app.command()
def launch(
    config: ConfigFile,
    overrides: Overrides = None,
    nproc: Processes = 1,
    nodes: Machines = 1,
    node_rank: Annotated[int, typer.Option(min=0, help="This machine's number, from 0.")] = 0,
    head: Annotated[
        str | None, typer.Option(help="Machine 0, as all machines reach it.", metavar="HOST")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Free port of machine 0.")] = 29500,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show what libraries say and warn of.")
    ] = False,
) -> None:
    """Train on this machine, or with others; the same command resumes.

    It checks the run, shows the accelerate launch command that it stands for, and runs it. Give it
    on each of several machines, with that machine's --node-rank.
    """
    from launch import local

    meeting = local.meeting(nodes, node_rank, head, port)
    raise typer.Exit(local.launch(config, overrides or [], nproc, meeting, verbose=verbose))


app.command()(estimate)
app.command()(tune_batch)
app.command(name="eval")(evaluate)
app.command()(doctor)
app.command()(submit)
app.command()(submit_pack)
app.command()(jobs)
app.command()(logs)
app.command()(cancel)
app.command(name="import")(import_weights)
app.command()(export)


def run_app(command_line: typer.Typer, name: str) -> None:
    """Run a command line; a user's mistake is one sentence and exit code 2."""
    try:
        command_line(prog_name=name)
    except Exception as error:
        said = sentence(error)
        if said is None:
            raise
        typer.echo(f"error: {said}", err=True)
        sys.exit(2)


def main() -> None:
    """The console script."""
    run_app(app, "segue")


if __name__ == "__main__":
    main()
