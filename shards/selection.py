"""Which clips of a corpus a run takes, by its filter and by the split that packing made."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shards.conditions import Mask, Values
from shards.corpus import Corpus
from shards.errors import UserError
from shards.filter import NAME_COLUMNS, Filter
from shards.index import SPLIT, Index

Split = Literal["train", "validation", "all"]


class Selection:
    """The clips of ``split`` that satisfy ``filter``; by default all that are not set apart.

    A source whose index has no column split is all train.
    """

    def __init__(
        self, corpus: Corpus, filter: Filter | None = None, split: Split = "train"
    ) -> None:
        """UserError for a column that a source lacks, and for a split that no source has."""
        self.corpus, self.filter, self.split = corpus, filter, split
        self._columns = {source.name: _Columns(source.index) for source in corpus.sources}
        self._is_split = any(columns.is_split for columns in self._columns.values())
        for columns in self._columns.values():
            columns.refuse_unknown(filter.columns if filter else ())
        if split == "validation" and not self._is_split:
            folders = ", ".join(str(source.index.folder) for source in corpus.sources)
            raise UserError(
                f"data.split=validation: {folders} has no clips set apart; pack it again with "
                "validation=0.01, or another share"
            )

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What the selection adds to a plan's fingerprint: nothing where it takes all clips."""
        split = {"data.split": self.split} if self._is_split or self.split != "train" else {}
        return {**split, **({"data.filter": self.filter.text} if self.filter else {})}

    def mask(self, start: int, stop: int) -> Mask | None:
        """Which of rows ``start`` to ``stop - 1`` of one source, bool; None for all of them."""
        source, local = self.corpus.source_of(start)
        rows = _Rows(self._columns[source.name], local, local + stop - start)
        within = self._within_split(rows)
        if self.filter is None:
            return within
        satisfying = self.filter.mask(rows)
        return satisfying if within is None else satisfying & within

    def _within_split(self, rows: _Rows) -> Mask | None:
        if self.split == "all":
            return None
        if rows.columns.is_split:
            return rows.among(SPLIT, frozenset([self.split]))
        return None if self.split == "train" else np.zeros(rows.stop - rows.start, dtype=np.bool_)


class _Columns:
    """One source's columns, looked up once: rows are asked about shard by shard."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.is_split = SPLIT in index.table.column_names
        self._lookups: dict[tuple[str, frozenset[str]], Mask] = {}

    def refuse_unknown(self, columns: tuple[str, ...]) -> None:
        names = [name for name in NAME_COLUMNS if name in self.index.table.column_names]
        known = ["seconds", *self.index.about["lengths"], *self.index.figures, *names]
        for column in columns:
            if column not in known:
                close = difflib.get_close_matches(column, known, n=1, cutoff=0.5)
                meant = f"did you mean {close[0]}? " if close else ""
                raise UserError(
                    f"data.filter: {self.index.folder} has no column {column}; {meant}it has "
                    f"{', '.join(known)}"
                )

    def lookup(self, column: str, names: frozenset[str]) -> Mask:
        """Whether each name that the column knows is one of ``names``, bool [known names]."""
        if (column, names) not in self._lookups:
            known = self.index.names(column)
            wanted = pc.is_in(known, value_set=pa.array(sorted(names), type=known.type))
            self._lookups[column, names] = wanted.to_numpy(zero_copy_only=False)
        return self._lookups[column, names]


@dataclass(frozen=True)
class _Rows:
    """Rows ``start`` to ``stop - 1`` of one source, as a filter asks about them."""

    columns: _Columns
    start: int
    stop: int

    def numbers(self, column: str) -> Values:
        numbers = self.columns.index.column(column).slice(self.start, self.stop)
        return numbers if numbers.dtype == np.float32 else numbers.astype(np.float64)

    def among(self, column: str, names: frozenset[str]) -> Mask:
        codes = self.columns.index.codes(column).slice(self.start, self.stop)
        wanted: Mask = self.columns.lookup(column, names)[codes]
        return wanted
