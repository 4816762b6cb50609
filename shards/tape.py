"""The order in which an epoch meets the clips of a bucket, shard by shard.

For each source and bucket imagine an endless tape: all its clips shard after shard, in another
random order of shards at every pass. Epoch e takes the tape from e * repeat * clips to
(e + 1) * repeat * clips, which is one whole pass where repeat is 1, and for a fraction another
part of the corpus each epoch. The pieces of all sources are then shuffled together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from shards.census import Census
from shards.chance import Purpose, permutation, words
from shards.corpus import Rows, Source

Shards = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Pieces:
    """A bucket's clips in one epoch: of ``shards[n]`` the clips from number ``low[n]`` on.

    ``ends`` counts the clips up to and with each piece.
    """

    shards: Shards
    low: Shards
    ends: Rows


class Tape:
    """The clips of each bucket and epoch, by position."""

    def __init__(self, census: Census, seed: int) -> None:
        self.census, self.seed = census, seed
        bases = census.corpus.shard_bases
        self._spans = list(zip(bases.tolist(), bases[1:].tolist(), strict=False))
        totals = [census.counts[a:b].sum(axis=0, dtype=np.int64).tolist() for a, b in self._spans]
        self._totals: list[list[int]] = totals
        self.pieces = lru_cache(maxsize=2 * len(census.buckets))(self._pieces)
        self._mix = lru_cache(maxsize=4 * len(self._spans))(self._mixing_words)

    def count(self, epoch: int, bucket: int) -> int:
        """Clips of ``bucket`` that ``epoch`` holds, over all sources."""
        sources = self.census.corpus.sources
        return sum(
            _upto(source, epoch + 1, totals[bucket]) - _upto(source, epoch, totals[bucket])
            for source, totals in zip(sources, self._totals, strict=True)
        )

    def rows(self, epoch: int, bucket: int, start: int, stop: int) -> Rows:
        """The clips at positions ``start`` to ``stop - 1`` of a bucket in an epoch."""
        pieces = self.pieces(epoch, bucket)
        first = int(np.searchsorted(pieces.ends, start, side="right"))
        last = int(np.searchsorted(pieces.ends, stop, side="left"))
        found = []
        for piece in range(first, min(last + 1, len(pieces.ends))):
            before = int(pieces.ends[piece - 1]) if piece else 0
            rows = self.census.bucket_rows(int(pieces.shards[piece]), bucket)
            offset = int(pieces.low[piece]) - before
            ends = min(stop, int(pieces.ends[piece]))
            found.append(rows[max(start, before) + offset : ends + offset])
        return np.concatenate(found) if found else np.empty(0, dtype=np.int64)

    def _pieces(self, epoch: int, bucket: int) -> Pieces:
        shards, low, high, order = [], [], [], []
        for number, source in enumerate(self.census.corpus.sources):
            for part, (tape_pass, start, stop) in enumerate(
                self._parts(source, number, epoch, bucket)
            ):
                own = self._cut(number, bucket, tape_pass, start, stop)
                shards.append(own[0] + self._spans[number][0])
                low.append(own[1])
                high.append(own[2])
                order.append(self._mix(epoch, number, part)[own[0]])
        if not shards:
            nothing = np.empty(0, dtype=np.int32)
            return Pieces(nothing, nothing, np.empty(0, dtype=np.int64))
        mixed = np.argsort(np.concatenate(order), kind="stable")
        lows = np.concatenate(low)[mixed]
        ends = np.cumsum(np.concatenate(high)[mixed] - lows, dtype=np.int64)
        return Pieces(np.concatenate(shards)[mixed].astype(np.int32), lows.astype(np.int32), ends)

    def _parts(
        self, source: Source, number: int, epoch: int, bucket: int
    ) -> Iterator[tuple[int, int, int]]:
        """Passes over the source that the epoch takes from: number, first and end position."""
        clips = self._totals[number][bucket]
        start, stop = _upto(source, epoch, clips), _upto(source, epoch + 1, clips)
        while start < stop:
            tape_pass, low = divmod(start, clips)
            high = min(clips, low + stop - start)
            yield tape_pass, low, high
            start += high - low

    def _cut(
        self, number: int, bucket: int, tape_pass: int, start: int, stop: int
    ) -> tuple[Shards, Shards, Shards]:
        """The source's shards and ranges of clips between two positions of a pass."""
        first, last = self._spans[number]
        counts = self.census.counts[first:last, bucket]
        if stop - start == self._totals[number][bucket]:
            whole = np.flatnonzero(counts).astype(np.int32)
            return whole, np.zeros_like(whole), counts[whole].astype(np.int32)
        order = permutation(last - first, self.seed, Purpose.TAPE, number, tape_pass)
        ends = np.cumsum(counts[order], dtype=np.int64)
        begins = ends - counts[order]
        low, high = np.maximum(begins, start) - begins, np.minimum(ends, stop) - begins
        kept = high > low
        held: list[Shards] = [part[kept].astype(np.int32) for part in (order, low, high)]
        return held[0], held[1], held[2]

    def _mixing_words(self, epoch: int, source: int, part: int) -> npt.NDArray[np.uint64]:
        first, last = self._spans[source]
        return words(last - first, self.seed, Purpose.MIX, epoch, source, part)


def _upto(source: Source, epoch: int, clips: int) -> int:
    """The position on the tape at which ``epoch`` begins."""
    return epoch * source.repeat.numerator * clips // source.repeat.denominator
