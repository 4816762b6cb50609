"""Which clips of finished blocks are the same as an earlier one, or nearly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shards.pack.config import DuplicatesConfig
from shards.pack.duplicates import Hashes, repeated, with_length
from shards.pack.receipt import SOUND, WORDS, BlockDone
from shards.sources.source import Reject

SAME_SOUND = "the same audio as another clip"
NEARLY_SAME = "the same words, speaker and length as another clip"

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Repeats:
    """Clips to leave out: their ``places`` among all, ascending, that of each one's first, and
    whether they only are nearly the same. ``near`` counts such clips that stay."""

    blocks: Sequence[BlockDone]
    starts: Places
    places: Places
    firsts: Places
    nearly: npt.NDArray[np.bool_]
    near: int

    def rows(self, block: int) -> Places:
        """The rows of a block that are left out, ascending."""
        rows: Places = self.places[self._range(block)] - self.starts[block]
        return rows

    def rejects(self, block: int) -> list[Reject]:
        """The same as rejects; the figure is the key of the clip that stays."""
        own = self._range(block)
        keys = self.blocks[block].table.column("key")
        return [
            Reject(
                keys[int(place - self.starts[block])].as_py(),
                NEARLY_SAME if nearly else SAME_SOUND,
                self._key(int(first)),
            )
            for place, first, nearly in zip(
                self.places[own], self.firsts[own], self.nearly[own], strict=True
            )
        ]

    def _range(self, block: int) -> slice:
        first, last = np.searchsorted(self.places, self.starts[block : block + 2])
        return slice(int(first), int(last))

    def _key(self, place: int) -> str:
        block = int(np.searchsorted(self.starts, place, side="right")) - 1
        key = self.blocks[block].table.column("key")[place - int(self.starts[block])]
        return str(key.as_py())


def find_repeats(blocks: Sequence[BlockDone], config: DuplicatesConfig) -> Repeats:
    """What ``config`` leaves out of the clips of ``blocks``."""
    exact = dict(repeated(_sounds(blocks)))
    near = {
        place: first
        for shift in (0.0, 0.5)
        for place, first in repeated(_words(blocks, config.near_seconds, shift))
        if place not in exact
    }
    out: dict[int, tuple[int, bool]] = {}
    if config.near == "reject":
        out |= {place: (first, True) for place, first in near.items()}
    if config.exact == "reject":
        out |= {place: (first, False) for place, first in exact.items()}
    ordered = sorted(out)
    starts = np.concatenate([[0], np.cumsum([block.clips for block in blocks])])
    return Repeats(
        blocks,
        starts.astype(np.int64),
        np.array(ordered, dtype=np.int64),
        np.array([out[place][0] for place in ordered], dtype=np.int64),
        np.array([out[place][1] for place in ordered], dtype=bool),
        len(near) if config.near == "keep" else 0,
    )


def _sounds(blocks: Sequence[BlockDone]) -> Callable[[], Iterable[Hashes]]:
    return lambda: (block.table.column(SOUND).to_numpy() for block in blocks)


def _words(
    blocks: Sequence[BlockDone], step: float, shift: float
) -> Callable[[], Iterable[Hashes]]:
    def parts() -> Iterator[Hashes]:
        for block in blocks:
            table = block.table
            seconds = table.column("seconds").to_numpy()
            yield with_length(table.column(WORDS).to_numpy(), seconds, step, shift)

    return parts
