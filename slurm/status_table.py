"""How runs stand, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from slurm.queue import QueuedJob
from slurm.status import RunStatus

LEFT = ("run", "state", "job")
RIGHT = ("step", "loss", "ETA", "restarts", "last step")


def print_table(found: Sequence[RunStatus], runs: Path) -> None:
    """One line per run; those in the folder ``runs`` go by their names."""
    table = Table(box=box.SIMPLE)
    for name in LEFT:
        table.add_column(name, overflow="fold")
    for name in RIGHT:
        table.add_column(name, justify="right", overflow="fold")
    for one in found:
        table.add_row(*_cells(one, runs))
    Console(markup=False, emoji=False, highlight=False).print(table)


def as_json(found: Sequence[RunStatus]) -> str:
    """A list of objects; times are ISO 8601."""
    return json.dumps([asdict(one) for one in found], default=_written, indent=1)


def readable(seconds: float) -> str:
    """A duration in its largest unit and the next: 12 s, 3 min, 5 h 20 min, 2 d 4 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def _written(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _cells(one: RunStatus, runs: Path) -> list[str]:
    is_here = one.run.parent.resolve() == runs.resolve()
    return [
        one.run.name if is_here else str(one.run),
        one.state,
        _ids(one.jobs),
        "" if one.step is None else f"{one.step}/{one.target or '?'}",
        "" if one.loss is None else f"{one.loss:.4f}",
        "" if one.eta_seconds is None else readable(one.eta_seconds),
        "" if one.restarts is None else str(one.restarts),
        "" if one.age_seconds is None else f"{readable(one.age_seconds)} ago",
    ]


def _ids(jobs: Sequence[QueuedJob]) -> str:
    if not jobs:
        return ""
    return jobs[0].id + (f" +{len(jobs) - 1}" if jobs[1:] else "")
