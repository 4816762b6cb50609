"""Finding what occurs twice among any number of clips, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

HELD = 4_000_000
"""Hashes looked at together: 16 bytes each, and as much again for sorting."""
_ODD = np.uint64(0x9E3779B97F4A7C15)

Hashes = npt.NDArray[np.uint64]


def repeated(hashes: Callable[[], Iterable[Hashes]]) -> Iterator[tuple[int, int]]:
    """(place, first place of the same hash) of every hash that occurred before.

    ``hashes`` gives all of them, part after part, each time it is called: once for every HELD of
    them, since only those in one range of values are looked at together. 0 stands for no hash.
    """
    total = sum(len(part) for part in hashes())
    ranges = max(1, -(-total // HELD))
    for number in range(ranges):
        low, high = (bound * 2**64 // ranges for bound in (number, number + 1))
        yield from _again(*_between(hashes(), low, high - 1))


def _between(parts: Iterable[Hashes], low: int, high: int) -> tuple[Hashes, npt.NDArray[np.int64]]:
    values, places, start = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], 0
    for part in parts:
        inside = (part >= np.uint64(low)) & (part <= np.uint64(high)) & (part != np.uint64(0))
        chosen = np.flatnonzero(inside)
        values.append(part[chosen])
        places.append(chosen + start)
        start += len(part)
    return np.concatenate(values), np.concatenate(places)


def _again(values: Hashes, places: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    begins = np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)]
    # The first place of a run of equal values is that of the last change at or before it.
    first = np.maximum.accumulate(np.where(begins, np.arange(len(ordered)), 0))
    again = np.flatnonzero(~begins)
    yield from zip(places[order[again]].tolist(), places[order[first[again]]].tolist(), strict=True)


def with_length(
    words: Hashes, seconds: npt.NDArray[np.float32], step: float, shift: float
) -> Hashes:
    """Hashes that are the same only for the same words and lengths in one cell of ``step``.

    Two grids, one shifted by half a step, catch every pair less than half a step apart and no
    pair more than a step apart. No words (0) stay 0.
    """
    cell = np.floor(seconds.astype(np.float64) / max(step, 1e-4) + shift).astype(np.uint64)
    mixed = (words ^ (cell * _ODD)) | np.uint64(1)
    hashes: Hashes = np.where(words == 0, np.uint64(0), mixed)
    return hashes
