"""What trains at a step, by component."""

from __future__ import annotations

from dataclasses import dataclass, field

from pretrain.components import Training

_HEADINGS = ("component", "parameters", "training", "rate factor", "state")
_UNUSED = "unused"


@dataclass
class Portion:
    """Parameters of one component that one entry of the configuration decides about.

    ``count`` are all of them, ``trained`` those that train at the step; ``factors`` are those of
    the rate.
    """

    name: str
    state: str
    count: int = 0
    trained: int = 0
    factors: set[float] = field(default_factory=set)

    def cells(self) -> tuple[str, ...]:
        """A table's row."""
        factors = list(dict.fromkeys(f"{factor:.3g}" for factor in sorted(self.factors)))
        return (
            self.name,
            f"{self.count:,}",
            f"{self.trained:,}",
            factors[0] + (f" to {factors[-1]}" if factors[1:] else ""),
            self.state,
        )


def describe(training: Training, step: int) -> str:
    """An aligned table: one row per component, one for each pattern that fits some of it and one
    for parameters that no loss reaches.
    """
    return _aligned([_HEADINGS, *(one.cells() for one in portions(training, step))])


def portions(training: Training, step: int) -> list[Portion]:
    """The rows of `describe`, in the order of the model's components."""
    rows: dict[tuple[str | None, str], Portion] = {}
    sizes = training.outline.sizes()
    for name, treatment in training.treatments.items():
        component = training.outline.component_of(name)
        part = _UNUSED if name in training.outline.unused else treatment.entry
        trains = treatment.trains_at(step)
        row = rows.setdefault(
            (component, part),
            Portion(_row_name(component, part), _state(treatment.begins, trains=trains)),
        )
        row.count += sizes[name]
        row.trained += sizes[name] if trains else 0
        row.factors.add(treatment.part.lr_scale)
    order = [*training.outline.components, None]
    ranked = sorted(rows, key=lambda key: (order.index(key[0]), key[1] == _UNUSED))
    return [rows[key] for key in ranked]


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
