"""The largest number that fits, and the setting that follows: no model, no device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shards.plan import Budget

EXACT = 16
"""The number found is within a part in so many of the largest."""


def largest(fits: Callable[[int], bool], most: int, guess: int = 1) -> int:
    """The largest number up to ``most`` that fits, 0 where not even 1 does.

    It is looked for from ``guess``, by doubling or halving and then by bisection. What fits must
    also fit in a smaller number.
    """
    trial = max(1, min(guess, most))
    low, high = 0, most + 1
    while low + 1 < high and high - low > max(1, low // EXACT):
        if fits(trial):
            low = trial
            trial = min(2 * low, high - 1) if high > most else (low + high) // 2
        else:
            high = trial
            trial = max(1, high // 2) if low == 0 else (low + high) // 2
        if high <= 1:
            return 0
    return low


@dataclass(frozen=True)
class Fit:
    """So many ``clips`` of one bucket fit, where each costs ``cost`` of the micro-batch's budget.

    ``seconds`` is the longest clip's length, ``peak`` the bytes of the passes, 0 where none fits.
    """

    bucket: int
    cost: float
    seconds: float
    clips: int
    peak: int


def largest_budget(budget: Budget, ranks: int, fits: Sequence[Fit]) -> float | None:
    """The largest micro-batch that every bucket fits in and that cuts a step evenly over ``ranks``.

    None where a clip of some bucket does not fit, or needs more than is left.
    """
    if not all(fit.clips for fit in fits):
        return None
    first_too_large = min((fit.clips + 1) * fit.cost for fit in fits)
    parts = ranks * max(1, math.ceil(budget.step / first_too_large / ranks))
    while not _holds(budget.step / parts, fits):
        parts += ranks
    longest = max(fit.cost for fit in fits)
    found = budget.step / parts
    rounded = math.floor(100 * found) / 100
    if rounded >= longest and int(budget.step / rounded + 1e-9) == parts:
        return rounded
    return found if found >= longest else None


def _holds(micro: float, fits: Sequence[Fit]) -> bool:
    # As the plan counts clips of a bucket.
    return all(int(micro / fit.cost + 1e-6) <= fit.clips for fit in fits)
