"""Everything a run trains on: one or several folders of shards under one row numbering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from shards.index import Index

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """A folder of shards and how often an epoch holds each of its clips."""

    name: str
    index: Index
    repeat: Fraction = Fraction(1)


class Corpus:
    """Sources one after another: rows and shards are numbered through.

    Example: ``Corpus([Source("a", Index.open(Path("shards")))]).gather("seconds", rows)``.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)
        starts = [source.index.shard_starts for source in self.sources]
        self.row_bases = np.cumsum([0, *(len(source.index) for source in self.sources)])
        self.shard_bases = np.cumsum([0, *(len(ends) - 1 for ends in starts)])
        shifted = [base + ends[:-1] for base, ends in zip(self.row_bases, starts, strict=False)]
        self.shard_starts: Rows = np.concatenate([*shifted, self.row_bases[-1:]]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.row_bases[-1])

    @property
    def shards(self) -> int:
        """Shards of all sources."""
        return len(self.shard_starts) - 1

    def source_of(self, row: int) -> tuple[Source, int]:
        """The source that holds ``row``, and the row's number in that source's index."""
        number = int(np.searchsorted(self.row_bases, row, side="right")) - 1
        return self.sources[number], int(row - self.row_bases[number])

    def gather(self, name: str, rows: Rows) -> npt.NDArray[np.float64]:
        """The index column ``name`` (seconds or a length) at ``rows``, float64 [rows]."""
        if len(self.sources) == 1:
            return self.sources[0].index.column(name).take(rows).astype(np.float64)
        found = np.empty(len(rows))
        numbers = np.searchsorted(self.row_bases, rows, side="right") - 1
        for number in np.unique(numbers):
            mine = numbers == number
            local = rows[mine] - self.row_bases[number]
            found[mine] = self.sources[number].index.column(name).take(local)
        return found

    def has(self, name: str) -> bool:
        """Whether every source's index has the length ``name``."""
        return all(name in source.index.about["lengths"] for source in self.sources)

    def seconds(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Durations of the clips, float64 [rows]."""
        return self.gather("seconds", rows)

    def column(self, name: str, start: int, stop: int) -> npt.NDArray[np.float32]:
        """The index column ``name`` of rows ``start`` to ``stop - 1`` of one source."""
        source, local = self.source_of(start)
        numbers = source.index.column(name).slice(local, local + stop - start)
        return numbers.astype(np.float32, copy=False)

    def key(self, row: int) -> str:
        """The clip's key, as `key_prefix` tells keys of several sources apart."""
        source, local = self.source_of(row)
        return self.key_prefix(source) + source.index.key(local)

    def key_prefix(self, source: Source) -> str:
        """What stands before a source's keys: its name, where there are several sources."""
        return "" if len(self.sources) == 1 else f"{source.name}/"

    def shard_rows(self, shard: int) -> range:
        """The rows of a shard."""
        return range(int(self.shard_starts[shard]), int(self.shard_starts[shard + 1]))
