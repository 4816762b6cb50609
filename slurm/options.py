"""Options that all commands that submit jobs have."""

from __future__ import annotations

from typing import Annotated

import typer

Partition = Annotated[str | None, typer.Option(help="Partition of the cluster.")]
Account = Annotated[str | None, typer.Option(help="Account that pays.")]
Qos = Annotated[str | None, typer.Option(help="Quality of service.")]
Constraint = Annotated[str | None, typer.Option(help="Features nodes must have.")]
Memory = Annotated[str | None, typer.Option(help="Memory of each node: 200G; 0 takes all.")]
Mail = Annotated[str | None, typer.Option(help="Address to write to at ends and requeues.")]
Container = Annotated[str | None, typer.Option(help="Image that the processes run in.")]
Further = Annotated[
    list[str] | None,
    typer.Option(help="A further option of sbatch, such as --sbatch=--exclusive; repeatable."),
]
Time = Annotated[
    str | None, typer.Option(help="Time limit as sbatch writes it: 24:00:00, 2-00:00.")
]
Requeues = Annotated[
    int | None, typer.Option(min=0, help="Starts again after time limits and preemptions.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be submitted only.")]
