"""What became of imported weights, as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from io import StringIO

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pretrain.weights.fit import STATUSES, Fit

WIDTH = 120


def by_component(fit: Fit) -> Table:
    """How many numbers of each component were loaded, renamed and so on; only what there is."""
    counts: dict[str, Counter[str]] = {}
    for row in fit.rows:
        counts.setdefault(row.component or "(other)", Counter())[row.status] += row.numbers
    total = sum(counts.values(), Counter[str]())
    table = Table(box=box.SIMPLE)
    table.add_column("component")
    shown = [status for status in STATUSES if total[status] or status == "loaded"]
    for status in shown:
        table.add_column(status, justify="right")
    for component, own in counts.items():
        table.add_row(component, *_cells(own, shown))
    table.add_section()
    table.add_row("all", *_cells(total, shown))
    return table


def by_parameter(fit: Fit) -> Table:
    """Every parameter, and where its numbers come from."""
    table = Table("parameter", "status", "numbers", "", box=box.SIMPLE)
    for row in fit.rows:
        status = row.status if row.allowed else f"{row.status}, not allowed"
        table.add_row(row.name, status, f"{row.numbers:,}", escape(row.detail))
    return table


def as_text(table: Table) -> str:
    """A table for a log, without colours."""
    console = Console(width=WIDTH, color_system=None, file=StringIO())
    with console.capture() as captured:
        console.print(table)
    return captured.get().strip("\n")


def _cells(counts: Counter[str], shown: Sequence[str]) -> list[str]:
    return [f"{counts[status]:,}" if counts[status] else "" for status in shown]
