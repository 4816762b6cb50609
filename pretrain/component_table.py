"""What trains at a step, as a table to print."""

from __future__ import annotations

from dataclasses import dataclass

from pretrain.components import Training

_HEADINGS = ("component", "parameters", "training", "rate factor", "state")
_UNUSED = "unused"


@dataclass
class _Row:
    """Parameters of one component that one entry of the configuration decides about."""

    name: str
    begins: int | None
    count: int
    factors: set[float]

    def cells(self, step: int) -> tuple[str, ...]:
        trains = self.begins is not None and step >= self.begins
        factors = list(dict.fromkeys(f"{factor:.3g}" for factor in sorted(self.factors)))
        return (
            self.name,
            f"{self.count:,}",
            f"{self.count if trains else 0:,}",
            factors[0] + (f" to {factors[-1]}" if factors[1:] else ""),
            _state(self.begins, trains=trains),
        )


def describe(training: Training, step: int) -> str:
    """An aligned table: one row per component, one for each pattern that fits some of it and one
    for parameters that no loss reaches.
    """
    rows: dict[tuple[str | None, str], _Row] = {}
    sizes = training.outline.sizes()
    for name, treatment in training.treatments.items():
        component = training.outline.component_of(name)
        part = _UNUSED if name in training.outline.unused else treatment.entry
        row = rows.setdefault(
            (component, part), _Row(_row_name(component, part), treatment.begins, 0, set())
        )
        row.count += sizes[name]
        row.factors.add(treatment.part.lr_scale)
    order = [*training.outline.components, None]
    ranked = sorted(rows, key=lambda key: (order.index(key[0]), key[1] == _UNUSED))
    return _aligned([_HEADINGS, *(rows[key].cells(step) for key in ranked)])


def _row_name(component: str | None, part: str) -> str:
    name = component or "no component"
    return name if part in {"", component} else f"{name}: {part}"


def _state(begins: int | None, *, trains: bool) -> str:
    if trains:
        return "training"
    return "frozen" if begins is None else f"frozen until step {begins}"


def _aligned(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number in {1, 2} else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
