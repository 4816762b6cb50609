"""Arguments that several commands take: a run's config, its settings, its processes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Argument(help="A run's YAML file.", metavar="CONFIG")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Settings to change, such as train.steps=500.", metavar="KEY.SUB=VALUE"),
]
ProcessesEach = Annotated[
    int, typer.Option("--nproc", min=1, help="Processes on each machine: one per GPU.")
]
Machines = Annotated[int, typer.Option(min=1, help="Machines that train together.")]
