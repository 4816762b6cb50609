"""How many clips of each bucket every shard holds, and which; the plan needs no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from shards.buckets import bin_uppers, bucket_edges
from shards.corpus import Corpus, Rows
from shards.cost import Cost
from shards.index import Index
from shards.selection import Selection

Holds = Callable[[Index, int, int], npt.NDArray[np.bool_]]
"""Which of an index's rows from one to before another hold something, bool [rows]."""
CHUNK_CLIPS = 1_000_000
CHUNK_SHARDS = 10_000
ROWS_HELD = 500_000


@dataclass(frozen=True)
class Bucket:
    """Clips of like length: ``edge`` is the longest they can be, in units of cost.

    All of a bucket lies between two limits of the curriculum: ``above`` < seconds <= ``up_to``.
    """

    edge: float
    above: float
    up_to: float


class Census:
    """The corpus cut into buckets, counted shard by shard in one pass over the index.

    ``buckets`` ascend by edge; ``counts`` is int32 [shards, buckets], ``totals`` their sums.
    Clips outside ``min_seconds``..``max_seconds`` or ``selection`` belong to no bucket.
    """

    def __init__(
        self,
        corpus: Corpus,
        cost: Cost,
        *,
        most_buckets: int,
        min_seconds: float,
        max_seconds: float,
        cuts: npt.NDArray[np.float32],
        selection: Selection,
    ) -> None:
        self.corpus, self.cost, self.selection = corpus, cost, selection
        self.min_seconds, self.max_seconds = np.float32(min_seconds), np.float32(max_seconds)
        self.shortest, self.longest, self.longest_row = self._extent()
        self.buckets: tuple[Bucket, ...] = ()
        if self.longest_row < 0:
            return
        self.uppers = bin_uppers(self.shortest, self.longest)
        self.histogram = self._histogram()
        self._edges = bucket_edges(self.uppers, self.histogram, most_buckets, cost)
        self._cuts = np.append(cuts[cuts < np.inf], np.float32(np.inf))
        everything, counts = self._every_bucket()
        self._count(everything, counts)
        per_shard = len(corpus) // max(1, corpus.shards) + 1
        self.rows = lru_cache(maxsize=max(2, min(512, ROWS_HELD // per_shard)))(self._rows)

    def _extent(self) -> tuple[float, float, int]:
        shortest, longest, row = np.inf, -np.inf, -1
        for start, stop in self._chunks():
            inside = self._admitted(start, stop)
            lengths = self.lengths_between(start, stop)[inside]
            if len(lengths):
                shortest = min(shortest, float(lengths.min()))
                if lengths.max() > longest:
                    longest = float(lengths.max())
                    row = start + int(np.flatnonzero(inside)[lengths.argmax()])
        return shortest, longest, row

    def _histogram(self) -> npt.NDArray[np.int64]:
        counts = np.zeros(len(self.uppers), dtype=np.int64)
        scale = len(self.uppers) / max(self.longest - self.shortest, 1e-9)
        for start, stop in self._chunks():
            lengths = self.lengths_between(start, stop)[self._admitted(start, stop)]
            bins = ((lengths - np.float32(self.shortest)) * np.float32(scale)).astype(np.int32)
            counts += np.bincount(np.minimum(bins, len(counts) - 1), minlength=len(counts))
        return counts

    def _every_bucket(self) -> tuple[list[Bucket], npt.NDArray[np.int32]]:
        """All combinations of length bucket and band of the curriculum, and their counts."""
        bands, edges = len(self._cuts), len(self._edges)
        above = np.concatenate([[-np.inf], self._cuts[:-1]])
        inside = [
            Bucket(self._edge(int(bucket), float(top)), float(bottom), float(top))
            for bottom, top in zip(above, self._cuts, strict=True)
            for bucket in range(edges)
        ]
        self._number = np.arange(1, bands * edges + 1, dtype=np.int32).reshape(bands, edges)
        return inside, self._count_all(bands * edges)

    def _count_all(self, width: int) -> npt.NDArray[np.int32]:
        """Clips of every shard and possible bucket; columns without any cost no memory."""
        parts = []
        for first, last in self._shard_groups():
            counted = self._counted(first, last, width + 1)[:, 1:]
            filled = np.flatnonzero(counted.any(axis=0))
            parts.append((first, last, filled, counted[:, filled].astype(np.int32)))
        self._filled = np.unique(np.concatenate([filled for _, _, filled, _ in parts]))
        counts = np.zeros((self.corpus.shards, len(self._filled)), dtype=np.int32)
        for first, last, filled, part in parts:
            counts[first:last, np.searchsorted(self._filled, filled)] = part
        return counts

    def _edge(self, bucket: int, top: float) -> float:
        edge = float(self._edges[bucket])
        return min(edge, top) if self.cost.weights == Cost().weights else edge

    def _count(self, everything: list[Bucket], counts: npt.NDArray[np.int32]) -> None:
        """Keep the buckets that hold clips, ascending by edge."""
        filled = self._filled.tolist()
        order = sorted(filled, key=lambda n: (everything[n].edge, everything[n].up_to))
        self.buckets = tuple(everything[n] for n in order)
        self.counts = np.ascontiguousarray(counts[:, [filled.index(n) for n in order]])
        self.totals = self.counts.sum(axis=0, dtype=np.int64)
        renumbered = np.zeros(len(everything) + 1, dtype=np.int32)
        renumbered[np.array(order, dtype=np.int64) + 1] = np.arange(1, len(order) + 1)
        self._number = renumbered[self._number]

    def _counted(self, first: int, last: int, width: int) -> npt.NDArray[np.int64]:
        starts = self.corpus.shard_starts
        start, stop = int(starts[first]), int(starts[last])
        shard = np.repeat(np.arange(last - first), np.diff(starts[first : last + 1]))
        places = shard * width + self._classified(start, stop)
        return np.bincount(places, minlength=(last - first) * width).reshape(-1, width)

    def _classified(self, start: int, stop: int) -> npt.NDArray[np.int32]:
        """1 + the bucket of each row, and 0 for a clip outside all; rows of one source."""
        length = np.searchsorted(self._edges, self.lengths_between(start, stop))
        number = np.minimum(length, len(self._edges) - 1)
        if len(self._cuts) == 1:
            found: npt.NDArray[np.int32] = self._number[0][number]
        else:
            seconds = self.corpus.column("seconds", start, stop)
            found = self._number[np.searchsorted(self._cuts, seconds), number]
        found[~self._admitted(start, stop)] = 0
        return found

    def lengths_between(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Lengths in units of cost of rows ``start`` to ``stop - 1`` of one source."""
        if self.cost.weights == Cost().weights:
            return self.corpus.column("seconds", start, stop)
        parts = [
            np.float32(weight) * self.corpus.column(name, start, stop)
            for name, weight in self.cost.weights
        ]
        total: npt.NDArray[np.float32] = np.sum(parts, axis=0, dtype=np.float32)
        return total

    def lengths(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Lengths in units of cost, float64 [rows]."""
        parts = [weight * self.corpus.gather(name, rows) for name, weight in self.cost.weights]
        total: npt.NDArray[np.float64] = np.sum(parts, axis=0, dtype=np.float64)
        return total

    def bucket_rows(self, shard: int, bucket: int) -> Rows:
        """The rows of one bucket's clips in a shard, ascending."""
        order, ends = self.rows(shard)
        rows: Rows = order[ends[bucket] : ends[bucket + 1]] + self.corpus.shard_starts[shard]
        return rows

    def longest_rows(self, bucket: int, count: int) -> Rows:
        """The ``count`` longest clips that are no longer than a bucket's edge."""
        within = np.flatnonzero(self.uppers <= np.float32(self.buckets[bucket].edge))
        above = np.cumsum(self.histogram[within][::-1])[::-1]
        enough = np.flatnonzero(above >= count)
        low = self.uppers[within[enough[-1]]] if len(enough) and enough[-1] > 0 else self.shortest
        margin = 2 * (self.longest - self.shortest) / len(self.uppers)
        found = [
            start + np.flatnonzero(inside & (lengths <= self.buckets[bucket].edge))
            for start, stop in self._chunks()
            for lengths in (self.lengths_between(start, stop),)
            for inside in (self._admitted(start, stop) & (lengths >= low - margin),)
        ]
        rows = np.concatenate(found)
        return rows[np.argsort(-self.lengths(rows), kind="stable")][:count]

    def _rows(self, shard: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        rows = self.corpus.shard_rows(shard)
        found = self._classified(rows.start, rows.stop)
        order = np.argsort(found, kind="stable")
        ends = np.searchsorted(found[order], np.arange(1, len(self.buckets) + 2))
        return order, ends

    def by_seconds(self, edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """How many clips, of those that belong to a bucket, lie between each two ``edges``."""
        counts = np.zeros(len(edges) - 1, dtype=np.int64)
        for start, stop in self._chunks():
            seconds = self.corpus.column("seconds", start, stop)
            counts += np.histogram(seconds[self._admitted(start, stop)], edges)[0]
        return counts

    def first_without(self, holds: Holds) -> int:
        """The first row, of those that belong to a bucket, that does not hold something; or -1."""
        for start, stop in self._chunks():
            source, local = self.corpus.source_of(start)
            lacking = self._admitted(start, stop)
            lacking &= ~holds(source.index, local, local + stop - start)
            if lacking.any():
                return start + int(lacking.argmax())
        return -1

    def _admitted(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        seconds = self.corpus.column("seconds", start, stop)
        inside: npt.NDArray[np.bool_] = seconds >= self.min_seconds
        inside &= seconds <= self.max_seconds
        selected = self.selection.mask(start, stop)
        return inside if selected is None else inside & selected

    def _chunks(self) -> Iterator[tuple[int, int]]:
        starts = self.corpus.shard_starts
        for first, last in self._shard_groups():
            yield int(starts[first]), int(starts[last])

    def _shard_groups(self) -> Iterator[tuple[int, int]]:
        """Runs of shards of one source with about CHUNK_CLIPS clips."""
        starts = self.corpus.shard_starts
        for base, end in zip(self.corpus.shard_bases, self.corpus.shard_bases[1:], strict=False):
            first = int(base)
            while first < end:
                last = int(np.searchsorted(starts, starts[first] + CHUNK_CLIPS, side="right")) - 1
                last = min(max(last, first + 1), first + CHUNK_SHARDS, int(end))
                yield first, last
                first = last
