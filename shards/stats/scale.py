"""Axes whose marks are round numbers."""

from __future__ import annotations

import math


def round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is at least ``least``, a number > 0."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10, 20) if step * power >= least)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from ``low`` to ``high``, evenly spaced, at most ``most`` (2 or more) of them.

    None where there is no room between the two.
    """
    if high <= low:
        return []
    step = round_step((high - low) / (most - 1))
    first, last = math.ceil(low / step), math.floor(high / step)
    return [number * step for number in range(first, last + 1)]
