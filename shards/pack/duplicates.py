"""Finding what occurs twice among any number of clips, in bounded memory."""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

HELD = 4_000_000
"""Hashes looked at together: 20 bytes each, and as much again for sorting."""

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
Found = tuple[Places, Places]
"""Places among all clips, and that of the clip because of which each is a duplicate."""


@dataclass(frozen=True)
class Rows:
    """Some of all clips, those of the same hash by place: a hash (0: none) and seconds of each."""

    hashes: Hashes
    places: Places
    seconds: npt.NDArray[np.float32]

    def take(self, which: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Rows:
        """Those at ``which`` positions."""
        return Rows(self.hashes[which], self.places[which], self.seconds[which])


Parts = Callable[[], Iterable[Rows]]
"""All clips part after part, each time it is called."""


def repeated(hashes: Callable[[], Iterable[Hashes]]) -> Iterator[tuple[int, int]]:
    """(place, first place of the same hash) of every hash that occurred before; 0 is no hash.

    ``hashes`` gives all of them, part after part, each time it is called.
    """

    def parts() -> Iterator[Rows]:
        start = 0
        for part in hashes():
            places = np.arange(start, start + len(part))
            yield Rows(part, places, np.zeros(len(part), dtype=np.float32))
            start += len(part)

    for places, firsts in same(parts):
        yield from zip(places.tolist(), firsts.tolist(), strict=True)


def same(parts: Parts) -> Iterator[Found]:
    """Every clip whose hash an earlier one has, with the first that has it."""
    return _decided(parts, _later)


def alike(parts: Parts, apart: float) -> Iterator[Found]:
    """Every clip that has the hash of an earlier one and at most ``apart`` more or less seconds.

    Only clips count that are not themselves found; each comes with the first of those.
    """
    return _decided(parts, lambda rows: _close(rows, apart))


def _decided(parts: Parts, decide: Callable[[Rows], Found]) -> Iterator[Found]:
    """What ``decide`` finds, range by range of the hashes' values.

    A range is half of what may be held. Where more has the same few hashes, what was found so far
    is let go; what stays of it is little.
    """
    ranges = max(1, -(-2 * sum(len(part.hashes) for part in parts()) // HELD))
    for number in range(ranges):
        low, high = (bound * 2**64 // ranges for bound in (number, number + 1))
        held: list[Rows] = []
        count = 0
        for part in _between(parts(), low, high - 1):
            if held and count + len(part.hashes) > HELD:
                rest, found = _parted(_joined(held), decide)
                yield found
                held, count = [rest], len(rest.hashes)
            held.append(part)
            count += len(part.hashes)
        if held:
            yield _parted(_joined(held), decide)[1]


def _between(parts: Iterable[Rows], low: int, high: int) -> Iterator[Rows]:
    for part in parts:
        hashes = part.hashes
        inside = (hashes >= np.uint64(low)) & (hashes <= np.uint64(high)) & (hashes != np.uint64(0))
        if inside.any():
            yield part.take(inside)


def _joined(held: Sequence[Rows]) -> Rows:
    """By hash, and in order of place for each."""
    hashes = np.concatenate([rows.hashes for rows in held])
    places = np.concatenate([rows.places for rows in held])
    seconds = np.concatenate([rows.seconds for rows in held])
    return Rows(hashes, places, seconds).take(np.argsort(hashes, kind="stable"))


def _parted(rows: Rows, decide: Callable[[Rows], Found]) -> tuple[Rows, Found]:
    """What stays of ``rows``, and what was found: positions in ``rows`` become places."""
    which, firsts = decide(rows)
    stays = np.ones(len(rows.hashes), dtype=bool)
    stays[which] = False
    return rows.take(stays), (rows.places[which], rows.places[firsts])


def _begins(hashes: Hashes) -> npt.NDArray[np.bool_]:
    """Where a run of equal ones begins."""
    begins = np.ones(len(hashes), dtype=bool)
    np.not_equal(hashes[1:], hashes[:-1], out=begins[1:])
    return begins


def _later(rows: Rows) -> Found:
    begins = _begins(rows.hashes)
    # The first of a run of equal ones is the last beginning at or before it.
    first = np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))
    which = np.flatnonzero(~begins)
    return which, first[which]


def _close(rows: Rows, apart: float) -> Found:
    begins = np.flatnonzero(_begins(rows.hashes))
    sizes = np.diff(begins, append=len(rows.hashes))
    firsts = np.full(len(rows.hashes), -1, dtype=np.int64)
    several = sizes > 1
    for begin, size in zip(begins[several], sizes[several], strict=True):
        _choose(rows.seconds[begin : begin + size], apart, firsts[begin : begin + size], begin)
    which = np.flatnonzero(firsts >= 0)
    return which, firsts[which]


def _choose(
    seconds: npt.NDArray[np.float32], apart: float, firsts: Places, begin: np.int64
) -> None:
    """Write into ``firsts`` for each that is left out the one that stays, counted from ``begin``.

    Those that stay are more than ``apart`` from each other: only the next shorter and the next
    longer one can be near.
    """
    kept: list[tuple[float, int]] = []
    for position in range(len(seconds)):
        length = float(seconds[position])
        at = bisect(kept, (length, position))
        near = [other for own, other in kept[max(0, at - 1) : at + 1] if abs(own - length) <= apart]
        if near:
            firsts[position] = begin + min(near)
        else:
            insort(kept, (length, position))
