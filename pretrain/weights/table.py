"""What became of imported weights, as tables."""

from __future__ import annotations

from collections import Counter

from rich import box
from rich.markup import escape
from rich.table import Table

from pretrain.weights.fit import STATUSES, Fit


def by_component(fit: Fit) -> Table:
    """How many numbers of each component were loaded, renamed and so on."""
    counts: dict[str, Counter[str]] = {}
    for row in fit.rows:
        counts.setdefault(row.component or "(other)", Counter())[row.status] += row.numbers
    total = sum(counts.values(), Counter[str]())
    table = Table(box=box.SIMPLE)
    table.add_column("component")
    for status in STATUSES:
        table.add_column(status, justify="right")
    for component, own in counts.items():
        table.add_row(component, *_cells(own))
    table.add_section()
    table.add_row("all", *_cells(total))
    return table


def by_parameter(fit: Fit) -> Table:
    """Every parameter, and where its numbers come from."""
    table = Table("parameter", "status", "numbers", "", box=box.SIMPLE)
    for row in fit.rows:
        status = row.status if row.allowed else f"{row.status}, not allowed"
        table.add_row(row.name, status, f"{row.numbers:,}", escape(row.detail))
    return table


def _cells(counts: Counter[str]) -> list[str]:
    return [f"{counts[status]:,}" if counts[status] else "" for status in STATUSES]
