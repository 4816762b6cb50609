"""Writing an index of any number of clips: its columns grow on disk, not in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from shards.atomic import replacing
from shards.column_files import MembersFile, NamesFile, NumbersFile, StringsFile
from shards.index import FACTS, FILE_NAME, FORMAT, SHARD_FACTS, ClipRow, ShardFacts

MOST_FIGURES = 256
_NUMBERS = {"offset": np.int64, "size": np.int64, "seconds": np.float32}


def rows_table(rows: Sequence[ClipRow]) -> pa.Table:
    """Rows as columns: those of FACTS, then each length and each figure that any row has."""
    columns = {name: pa.array(_values(rows, name), type=kind) for name, kind in FACTS.items()}
    for name in sorted({name for row in rows for name in row.lengths}):
        columns[name] = pa.array([row.lengths.get(name, 0) for row in rows], type=pa.int32())
    for name in sorted({name for row in rows for name in row.figures} - columns.keys()):
        columns[name] = pa.array(
            [row.figures.get(name, float("nan")) for row in rows], type=pa.float32()
        )
    return pa.table(columns)


def _values(rows: Sequence[ClipRow], name: str) -> list[Any]:
    if name == "members":
        return [[vars(member) for member in row.members] for row in rows]
    return [getattr(row, name) for row in rows]


def largest_values(rows: Iterable[ClipRow]) -> dict[str, int]:
    """The largest value of each integer member over all rows."""
    largest: dict[str, int] = {}
    for row in rows:
        raise_to(largest, row.largest)
    return largest


def raise_to(largest: dict[str, int], others: Mapping[str, int]) -> None:
    """Raise each of ``largest`` to that of ``others``."""
    for name, value in others.items():
        largest[name] = max(value, largest.get(name, value))


def write_index(
    folder: Path, rows: Iterable[ClipRow], shards: Iterable[ShardFacts], about: Mapping[str, Any]
) -> None:
    """Write ``folder/index.arrow`` atomically.

    ``rows`` lie together shard by shard, in the order of ``shards``; ``about`` holds the feature
    extractors' facts.
    """
    clips = list(rows)
    table = rows_table(clips)
    writer = IndexWriter(
        folder,
        lengths=sorted({name for clip in clips for name in clip.lengths}),
        figures=sorted({name for clip in clips for name in clip.figures}),
    )
    writer.add(table, list(shards))
    writer.finish(folder, {"largest": largest_values(clips), **about})


class IndexWriter:
    """An index being written block by block.

    ``scratch`` is a folder for nameless files; ``lengths`` and ``figures`` name all such columns of
    all blocks, ``names`` further columns of strings. Figures beyond MOST_FIGURES stay in the clips'
    .json alone.
    """

    def __init__(
        self,
        scratch: Path,
        *,
        lengths: Sequence[str],
        figures: Sequence[str],
        names: Sequence[str] = (),
    ) -> None:
        self.lengths, self.figures = tuple(lengths), tuple(figures[:MOST_FIGURES])
        self.rows = 0
        self._shards: list[ShardFacts] = []
        self._key = StringsFile(scratch)
        self._names = {
            name: NamesFile(scratch) for name in ("shard", "speaker", "language", "source")
        } | {name: NamesFile(scratch) for name in names}
        numbers = {**_NUMBERS, **dict.fromkeys(lengths, np.int32)}
        numbers |= dict.fromkeys(self.figures, np.float32)
        self._numbers = {name: NumbersFile(scratch, kind) for name, kind in numbers.items()}
        self._members = MembersFile(scratch)

    def add(self, table: pa.Table, shards: Sequence[ShardFacts]) -> None:
        """Append the rows of ``shards``, which lie together shard by shard."""
        self._shards += shards
        if table.num_rows == 0:
            return
        self.rows += table.num_rows
        self._key.add(table.column("key"))
        self._members.add(table.column("members"))
        for name, names in self._names.items():
            names.add(table.column(name))
        for name, numbers in self._numbers.items():
            numbers.add(table, name)

    def finish(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Write ``folder/index.arrow`` atomically.

        ``about`` must hold ``largest``, the largest value of each integer member.
        """
        names = {name: column.array() for name, column in self._names.items()}
        numbers = {name: column.array() for name, column in self._numbers.items()}
        columns = {"key": self._key.array(), "members": self._members.array(), **names, **numbers}
        extra = [name for name in names if name not in FACTS]
        ordered = [*FACTS, *extra, *self.lengths, *self.figures]
        facts = {"lengths": list(self.lengths), "figures": list(self.figures)}
        table = pa.table({name: columns[name] for name in ordered})
        write_columns(folder, table, self._shards, {**facts, "digest": self._digest(), **about})

    def _digest(self) -> str:
        """A fingerprint of every clip's identity, order, length and content, and of its shard.

        Not of its speaker and figures: they are not what is trained on.
        """
        parts = [self._key.digest(), self._members.digest(), self._names["shard"].digest()]
        parts += [self._numbers[name].digest() for name in ("seconds", *self.lengths)]
        return xxhash.xxh3_128_hexdigest("\0".join(parts).encode())


def write_columns(
    folder: Path, table: pa.Table, shards: Sequence[ShardFacts], about: Mapping[str, Any]
) -> None:
    """Write an index of columns that are there already, atomically, as one Arrow IPC batch.

    ``about`` must hold ``lengths``, ``largest`` and ``digest``. What a run asks of the whole
    corpus goes into the schema's metadata, so that opening an index of any size stays cheap.
    """
    metadata = {"format": FORMAT, "shortest": _shortest(table, about["lengths"]), **about}
    table = table.replace_schema_metadata(
        {"segue": json.dumps(metadata), "segue.shards": _packed(shards)}
    )
    with (
        replacing(folder / FILE_NAME) as aside,
        pa.OSFile(str(aside), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table.combine_chunks(), max_chunksize=max(1, table.num_rows))


def _packed(shards: Sequence[ShardFacts]) -> bytes:
    listed = {name: [getattr(shard, name) for shard in shards] for name in SHARD_FACTS.names}
    table = pa.table(listed, schema=SHARD_FACTS)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _shortest(table: pa.Table, names: Iterable[str]) -> dict[str, int]:
    return {name: pc.min(table.column(name)).as_py() or 0 for name in names}
