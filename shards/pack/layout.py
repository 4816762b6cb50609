"""How a listing is cut into blocks and chunks of work.

A block is what a few shards are made of: every B-th group of recordings, so that each block is a
fair sample of the corpus whatever its order, and no shuffle of the whole has to be held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shards.audio import MOST_SECONDS, UNREADABLE, measure
from shards.pack.listing import Listing
from shards.sources.source import Recording, Reject

CHUNK_SECONDS = 300.0
CHUNK_ROWS = 4096
"""However short the clips are, or unreadable."""
SAMPLED_ROWS = 512
_UNKNOWN_SECONDS = 1.0
_OUTLIER = 20
"""No length counts as more than so many medians: a broken header may claim hours."""


@dataclass(frozen=True)
class Chunk:
    """A worker's task: some groups of a block, named by their places in it."""

    block: int
    first: int
    last: int
    seconds: float

    @property
    def name(self) -> str:
        """Unique among all chunks, whatever their length."""
        return f"{self.block:06d}-{self.first:06d}-{self.last:06d}"


@dataclass(frozen=True)
class Layout:
    """How a listing is cut: ``blocks``, and what a row whose length is not known is taken for."""

    listing: Listing
    blocks: int
    mean_seconds: float

    @classmethod
    def of(cls, listing: Listing, block_seconds: float) -> Layout:
        """Blocks of about so many seconds of audio.

        Lengths that the corpus does not tell are estimated from the headers of a sample.
        """
        sample = [listing.row(row) for row in listing.spread(SAMPLED_ROWS)]
        mean = _mean([seconds for seconds in map(_seconds, sample) if seconds is not None])
        groups = len(listing.groups) - 1
        blocks = round(mean * len(listing) / block_seconds)
        return cls(listing, max(1, min(blocks, groups)), mean)

    @property
    def seconds(self) -> float:
        """About how much audio there is."""
        return self.mean_seconds * len(self.listing)

    def rows(self, chunk: Chunk) -> Iterator[int]:
        """The rows of a chunk, in order."""
        groups = self.listing.groups
        for place in range(chunk.first, chunk.last):
            group = chunk.block + place * self.blocks
            yield from range(int(groups[group]), int(groups[group + 1]))

    def chunks(self, block: int) -> Iterator[Chunk]:
        """A block's groups in turn, cut into chunks of about CHUNK_SECONDS of audio."""
        groups = self.listing.groups
        most = min(CHUNK_ROWS, CHUNK_SECONDS / self.mean_seconds)
        first, rows = 0, 0
        own = range(block, len(groups) - 1, self.blocks)
        for place, group in enumerate(own):
            rows += int(groups[group + 1] - groups[group])
            if rows >= most or place == len(own) - 1:
                yield Chunk(block, first, place + 1, rows * self.mean_seconds)
                first, rows = place + 1, 0


def _mean(lengths: Sequence[float]) -> float:
    """The mean length, little moved by a few that are wrong; above 0."""
    known = [seconds for seconds in lengths if seconds > 0]
    if not known:
        return _UNKNOWN_SECONDS
    return float(np.minimum(lengths, _OUTLIER * np.median(known)).mean())


def _seconds(row: Recording | Reject) -> float | None:
    if isinstance(row, Reject):
        return 0.0
    seconds = row.seconds
    if seconds is None and row.audio is not None:
        try:
            seconds = max(0.0, measure(row.audio) - row.start)
        except UNREADABLE:
            return None
    return None if seconds is None or seconds > MOST_SECONDS else seconds
