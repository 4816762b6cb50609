"""How the values of a column lie, exactly, in memory that does not grow with the column."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shards.stats.scale import round_step

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
BINS = 60
"""A histogram has at most two bins more."""

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]
Parts = Callable[[], Iterable[Floats]]
"""A column, slice after slice, each time it is called."""

_HALF = 1 << 16


@dataclass(frozen=True)
class Histogram:
    """``counts[i]`` values lie from ``edges[i]`` to below ``edges[i + 1]``; the edges are round.

    ``below`` and ``above`` count values so far out that the others would share a few bins.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    below: int
    above: int


@dataclass(frozen=True)
class Distribution:
    """``percentiles`` maps p1, p5, ... to the smallest value that so many percent do not exceed."""

    mean: float
    minimum: float
    maximum: float
    percentiles: dict[str, float]
    histogram: Histogram


@dataclass(frozen=True)
class Figure:
    """``unknown`` counts the values that are no finite number; ``known`` is None if all are so."""

    unknown: int
    known: Distribution | None


def figure(parts: Parts) -> Figure:
    """Read ``parts``, slices of a float32 column, three times.

    Percentiles are exact, by radix selection: the first pass counts the upper halves of the 32 bits
    that order floats, the second the lower halves beside those where a percentile lies.
    """
    upper, unknown, total = _first_pass(parts)
    count = int(upper.sum())
    if count == 0:
        return Figure(unknown, None)
    ranks = [1, *(-(-p * count // 100) for p in PERCENTILES), count]
    minimum, *middle, maximum = _at_ranks(parts, upper, ranks)
    low, high = _range(minimum, middle[0], middle[-1], maximum)
    percentiles = {f"p{p}": value for p, value in zip(PERCENTILES, middle, strict=True)}
    found = Distribution(total / count, minimum, maximum, percentiles, _histogram(parts, low, high))
    return Figure(unknown, found)


def _first_pass(parts: Parts) -> tuple[Counts, int, float]:
    """How often each upper half occurs, how many values are not finite, and the others' sum."""
    upper = np.zeros(_HALF, dtype=np.int64)
    unknown, total = 0, 0.0
    for part in parts():
        known = _known(part)
        upper += np.bincount(_order(known) >> 16, minlength=_HALF)
        unknown += len(part) - len(known)
        total += float(known.sum(dtype=np.float64))
    return upper, unknown, total


def _at_ranks(parts: Parts, upper: Counts, ranks: Sequence[int]) -> list[float]:
    """The values of these ranks, counted from 1 upwards; ``upper`` counts the upper halves."""
    ends = np.cumsum(upper)
    halves = np.searchsorted(ends, ranks).tolist()
    lower = {half: np.zeros(_HALF, dtype=np.int64) for half in halves}
    for part in parts():
        order = _order(_known(part))
        for half in lower:
            beside = order[order >> 16 == half] & (_HALF - 1)
            lower[half] += np.bincount(beside, minlength=_HALF)
    found = []
    for half, rank in zip(halves, ranks, strict=True):
        within = rank - int(ends[half] - upper[half])
        place = int(np.searchsorted(np.cumsum(lower[half]), within))
        found.append(_value(half << 16 | place))
    return found


def _known(part: Floats) -> Floats:
    known: Floats = part[np.isfinite(part)]
    return known


def _order(values: Floats) -> npt.NDArray[np.uint32]:
    """Whole numbers in the order of the values: bits of negative floats count downwards."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _value(order: int) -> float:
    bits = order ^ (1 << 31) if order >> 31 else ~order & 0xFFFFFFFF
    return float(np.uint32(bits).view(np.float32)) + 0.0  # and not -0.0


def _range(minimum: float, p1: float, p99: float, maximum: float) -> tuple[float, float]:
    """What a histogram shows: all, but no farther out of the middle 98 % than they are wide."""
    if p1 == p99:
        return minimum, maximum
    return max(minimum, 2 * p1 - p99), min(maximum, 2 * p99 - p1)


def _histogram(parts: Parts, low: float, high: float) -> Histogram:
    step = round_step((high - low) / BINS or abs(low) / BINS or 1.0)
    first, last = math.floor(low / step), math.floor(high / step)
    counts = np.zeros(last - first + 3, dtype=np.int64)
    for part in parts():
        places = np.floor(_known(part).astype(np.float64) / step).clip(first - 1, last + 1)
        counts += np.bincount((places - (first - 1)).astype(np.int64), minlength=len(counts))
    below, *inside, above = counts.tolist()
    edges = tuple(number * step for number in range(first, last + 2))
    return Histogram(edges, tuple(inside), below, above)
