"""Which clips of finished blocks are the same as an earlier one, or nearly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shards.pack.config import DuplicatesConfig
from shards.pack.duplicates import Found, Parts, Places, Rows, alike, same
from shards.pack.receipt import FILE, NAME, SOUND, WORDS, BlockDone
from shards.sources.source import Reject

SAME_SOUND = "the same audio as another clip"
NEARLY_SAME = "the same words, speaker and length as another clip"
LOOKED_UP = 100_000
"""Keys held at a time, about."""


@dataclass(frozen=True)
class Repeats:
    """Clips to leave out: their ``places`` among all, ascending, and that of the clip that stays.

    ``nearly`` tells which only are nearly the same as that; ``near`` counts such clips that stay.
    """

    blocks: Sequence[BlockDone]
    starts: Places
    places: Places
    firsts: Places
    nearly: npt.NDArray[np.bool_]
    near: int

    def kept(self, block: int) -> npt.NDArray[np.bool_]:
        """Which rows of a block stay."""
        kept = np.ones(int(self.starts[block + 1] - self.starts[block]), dtype=bool)
        kept[self.places[self._range(block)] - self.starts[block]] = False
        return kept

    def rejects(self) -> Iterator[list[Reject]]:
        """Block by block the rows that do not stay; the figure is the key of what stays instead."""
        counts = np.diff(np.searchsorted(self.places, self.starts))
        # A key may lie in any block: many are looked up together, so that few are opened often.
        together = (np.cumsum(counts) - counts) // LOOKED_UP
        for group in np.unique(together):
            blocks = np.flatnonzero(together == group)
            ranges = [self._range(int(block)) for block in blocks]
            keys = self._keys(self.firsts[ranges[0].start : ranges[-1].stop])
            for block, own in zip(blocks, ranges, strict=True):
                named = keys[own.start - ranges[0].start : own.stop - ranges[0].start]
                yield self._rejects(int(block), own, named)

    def _rejects(self, block: int, own: slice, keys: Sequence[str]) -> list[Reject]:
        if not keys:
            return []
        table = self.blocks[block].table
        columns = [name for name in (NAME, "key", FILE, "shard") if name in table.column_names]
        left_out = table.select(columns).take(self.places[own] - self.starts[block])
        reasons = [NEARLY_SAME if nearly else SAME_SOUND for nearly in self.nearly[own]]
        names, files = _texts(left_out, NAME, "key"), _texts(left_out, FILE, "shard")
        return [Reject(*facts) for facts in zip(names, reasons, keys, files, strict=True)]

    def _range(self, block: int) -> slice:
        first, last = np.searchsorted(self.places, self.starts[block : block + 2])
        return slice(int(first), int(last))

    def _keys(self, places: Places) -> list[str]:
        """The keys of clips; each block among them is opened once."""
        keys = [""] * len(places)
        order = np.argsort(places)
        bounds = np.searchsorted(places[order], self.starts)
        for block in np.flatnonzero(np.diff(bounds)):
            own = order[bounds[block] : bounds[block + 1]]
            column = self.blocks[int(block)].table.column("key")
            found = column.take(pa.array(places[own] - self.starts[block])).to_pylist()
            for position, key in zip(own, found, strict=True):
                keys[position] = key
        return keys


def _texts(table: pa.Table, name: str, otherwise: str) -> list[str]:
    """A column of texts; where it or a text in it is missing, what ``otherwise`` has."""
    instead: list[str] = table.column(otherwise).to_pylist()
    if name not in table.column_names:
        return instead
    return [own or other for own, other in zip(table[name].to_pylist(), instead, strict=True)]


def find_repeats(blocks: Sequence[BlockDone], config: DuplicatesConfig) -> Repeats:
    """What ``config`` leaves out of the clips of ``blocks``: exact duplicates, then near ones.

    A near one is left out, or counted, only because of a clip that is not itself.
    """
    starts = np.cumsum([0, *(block.table.num_rows for block in blocks)], dtype=np.int64)
    exact = _NONE
    if config.exact == "reject":
        exact = _ordered(same(_parts(blocks, starts, SOUND, _NONE[0])))
    found = alike(_parts(blocks, starts, WORDS, exact[0]), config.near_seconds)
    if config.near == "keep":
        count = sum(len(places) for places, _ in found)
        return Repeats(blocks, starts, *exact, np.zeros(len(exact[0]), dtype=bool), count)
    return Repeats(blocks, starts, *_together(exact, _ordered(found)), 0)


_NONE: Found = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


def _parts(blocks: Sequence[BlockDone], starts: Places, column: str, without: Places) -> Parts:
    def parts() -> Iterator[Rows]:
        for number, block in enumerate(blocks):
            table = block.table
            places = np.arange(starts[number], starts[number + 1])
            hashes, seconds = (table.column(name).to_numpy() for name in (column, "seconds"))
            first, last = np.searchsorted(without, starts[number : number + 2])
            stay = np.ones(len(places), dtype=bool)
            stay[without[first:last] - starts[number]] = False
            yield Rows(hashes, places, seconds).take(stay)

    return parts


def _ordered(found: Iterable[Found]) -> Found:
    """All of it as one, by place."""
    parts = [_NONE, *found]
    places = np.concatenate([places for places, _ in parts])
    order = np.argsort(places)
    return places[order], np.concatenate([firsts for _, firsts in parts])[order]


def _together(exact: Found, near: Found) -> tuple[Places, Places, npt.NDArray[np.bool_]]:
    """Both by place, and which are near.

    An exact duplicate of a clip that is left out as a near one is near what stays of all three.
    """
    firsts = exact[1].copy()
    gone = np.isin(firsts, near[0])
    firsts[gone] = near[1][np.searchsorted(near[0], firsts[gone])]
    places = np.concatenate([exact[0], near[0]])
    order = np.argsort(places)
    nearly = np.concatenate([gone, np.ones(len(near[0]), dtype=bool)])
    return places[order], np.concatenate([firsts, near[1]])[order], nearly[order]
