"""The index beside the shards: one row per clip, memory-mapped, enough to plan without audio."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shards.columns import MAPPED_BYTES, Column, IndexFile
from shards.errors import UserError

FILE_NAME = "index.arrow"
SPLIT = "split"
"""The column that says train or validation, where speakers were set apart."""
FORMAT = 2
AUDIO_FORMATS = ("flac", "wav", "mp3", "ogg", "opus")
"""The names of members that are a clip's audio."""

NAMES = pa.dictionary(pa.int32(), pa.string())
MEMBER = pa.struct(
    [
        ("name", NAMES),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("checksum", pa.uint64()),
    ]
)
FACTS = {
    "key": pa.large_string(),
    "shard": NAMES,
    "offset": pa.int64(),
    "size": pa.int64(),
    "members": pa.list_(MEMBER),
    "seconds": pa.float32(),
    "speaker": NAMES,
    "language": NAMES,
    "source": NAMES,
}
SHARD_FACTS = pa.schema(
    [("name", pa.string()), ("rows", pa.int64()), ("bytes", pa.int64()), ("checksum", pa.uint64())]
)


@dataclass(frozen=True)
class Member:
    """One file of a clip inside a shard: its extension, where its bytes lie and their xxh3."""

    name: str
    offset: int
    size: int
    checksum: int


@dataclass(frozen=True)
class ShardFacts:
    """A whole shard: its file name, clips, bytes and the xxh3 of those bytes."""

    name: str
    rows: int
    bytes: int
    checksum: int


@dataclass(frozen=True)
class ClipRow:
    """What the index says of one clip.

    ``lengths`` counts each array member along its last axis (``phonemes.npy`` -> ``phonemes``);
    ``largest`` holds the largest value of each integer member; ``figures`` are what is known of the
    clip's quality.
    """

    key: str
    shard: str
    offset: int
    size: int
    members: tuple[Member, ...]
    seconds: float
    speaker: str
    language: str
    source: str
    lengths: Mapping[str, int]
    largest: Mapping[str, int]
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MemberTable:
    """Where every member of every clip lies.

    Row r's members stand at positions ``starts[r]`` to ``starts[r + 1] - 1`` of the others;
    ``name`` holds places in ``names``.
    """

    names: tuple[str, ...]
    starts: Column
    name: Column
    offset: Column
    size: Column
    checksum: Column


class Index:
    """A memory-mapped index. Row numbers are positions in the file.

    Example: ``Index.open(Path("shards")).seconds.sum() / 3600`` is the corpus's hours.
    """

    def __init__(
        self,
        folder: Path,
        table: pa.Table,
        file: IndexFile,
        begin: int,
        location: str | None = None,
    ) -> None:
        """``table`` lies in a map of ``file`` that begins at the address ``begin``."""
        self._file, self._begin = file, begin
        self.folder = folder
        self.location = location or str(folder)
        self.table = table
        self.about: dict[str, Any] = json.loads(table.schema.metadata[b"segue"])

    @classmethod
    def open(cls, folder: Path, location: str | None = None) -> Index:
        """Map ``folder/index.arrow``; UserError where it is missing, unreadable or empty.

        ``location``: where the shards are, if not in the same folder.
        """
        path = folder / FILE_NAME
        if not folder.is_dir():
            state = "a file" if folder.exists() else "not there"
            raise UserError(
                f"data.path: {folder} is {state}; pack a folder with 'segue shards pack SOURCE "
                f"{folder}' or name another"
            )
        if not path.is_file():
            raise UserError(
                f"data.path: {folder} holds no {FILE_NAME}; finish 'segue shards pack SOURCE "
                f"{folder}' or name a folder that has one"
            )
        try:
            file = IndexFile(path)
            mapped = pa.py_buffer(file.mapped())
        except (OSError, ValueError) as error:
            raise UserError(f"data.path: {path} cannot be read ({error}); pack it again") from error
        table = _read(path, mapped)
        if table.num_rows == 0:
            raise UserError(
                f"data.path: {path} lists no clips; see {folder / 'rejects.parquet'} for why "
                "and pack again"
            )
        return cls(folder, table, file, mapped.address, location)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def digest(self) -> str:
        """A fingerprint of every clip's identity, order, length and content."""
        return str(self.about["digest"])

    @property
    def figures(self) -> tuple[str, ...]:
        """The columns that say something of each clip's quality; NaN where it is not known."""
        return tuple(self.about.get("figures", ()))

    @property
    def seconds(self) -> npt.NDArray[np.float32]:
        """Each clip's duration in seconds, float32 [clips]."""
        return self.numbers("seconds")

    def lengths(self, name: str) -> npt.NDArray[np.int32]:
        """Each clip's length of the member ``name``.npy in its own units, int32 [clips]."""
        return self.numbers(name)

    def column(self, name: str) -> Column:
        """A column of numbers, to read at some rows."""
        if name not in self._columns:
            self._columns[name] = self._column_of(self._array(name))
        return self._columns[name]

    @cached_property
    def _columns(self) -> dict[str, Column]:
        return {}

    def _column_of(self, array: pa.Array) -> Column:
        view = array.to_numpy(zero_copy_only=True)
        return Column(view, self._file, array.buffers()[1].address - self._begin)

    def codes(self, name: str) -> Column:
        """For each row the place of its name among `names`, for a column of few names."""
        if name not in self._columns:
            self._columns[name] = self._column_of(self._array(name).indices)
        return self._columns[name]

    def names(self, name: str) -> pa.Array:
        """The different names that a column knows."""
        return self._array(name).dictionary

    def numbers(self, name: str) -> npt.NDArray[Any]:
        """A column of numbers, [clips]."""
        # One chunk by construction, so this is a view of the mapped file and not a copy.
        numbers: npt.NDArray[Any] = self._array(name).to_numpy(zero_copy_only=True)
        return numbers

    def _array(self, name: str) -> pa.Array:
        return self.table.column(name).chunk(0)

    @cached_property
    def shards(self) -> pa.Table:
        """One row a shard, in the order of the clips: name, rows, bytes, checksum."""
        with pa.ipc.open_stream(self.table.schema.metadata[b"segue.shards"]) as reader:
            return reader.read_all()

    @cached_property
    def shard_facts(self) -> dict[str, ShardFacts]:
        """Each shard's facts, by its name."""
        return {facts["name"]: ShardFacts(**facts) for facts in self.shards.to_pylist()}

    @cached_property
    def shard_starts(self) -> npt.NDArray[np.int64]:
        """The first row of each shard and, last, the number of rows, int64 [shards + 1]."""
        rows = self.shards.column("rows").to_numpy()
        return np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])

    @cached_property
    def members(self) -> MemberTable:
        """Where every clip's members lie."""
        listed = self._array("members")
        values = listed.values
        fields = {name: values.field(name) for name in MEMBER.names}
        return MemberTable(
            names=tuple(fields["name"].dictionary.to_pylist()),
            starts=self._column_of(listed.offsets),
            name=self._column_of(fields["name"].indices),
            offset=self._column_of(fields["offset"]),
            size=self._column_of(fields["size"]),
            checksum=self._column_of(fields["checksum"]),
        )

    def have_member(self, names: Sequence[str], start: int, stop: int) -> npt.NDArray[np.bool_]:
        """Whether each of the rows ``start`` to ``stop - 1`` has one of these members, [rows]."""
        table = self.members
        wanted = np.array([name in names for name in table.names])
        starts = table.starts.slice(start, stop + 1)
        among = wanted[table.name.slice(int(starts[0]), int(starts[-1]))]
        before = np.concatenate([[0], np.cumsum(among)])[starts - starts[0]]
        found: npt.NDArray[np.bool_] = np.diff(before) > 0
        return found

    def key(self, row: int) -> str:
        """The clip's key in its shard."""
        return str(self._array("key")[row].as_py())

    def keys(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """The keys of several clips."""
        starts, text, place = self._key_text
        begins, ends = starts.take(rows).tolist(), starts.take(rows + 1).tolist()
        spans = zip(begins, ends, strict=True)
        if len(text) <= MAPPED_BYTES:
            return [str(text[begin:end], "utf-8") for begin, end in spans]
        return [self._file.read(place + begin, end - begin).decode() for begin, end in spans]

    @cached_property
    def _key_text(self) -> tuple[Column, memoryview, int]:
        # Arrow's own layout of strings: where each begins, and all of them one after another.
        _, starts, text = self._array("key").buffers()
        begins = np.frombuffer(starts, dtype=np.int64)
        column = Column(begins, self._file, starts.address - self._begin)
        if text is None:
            return column, memoryview(b""), 0
        return column, memoryview(text), text.address - self._begin

    def shard(self, row: int) -> str:
        """The file name of the clip's shard."""
        return str(self._array("shard")[row].as_py())


def _read(path: Path, mapped: pa.Buffer) -> pa.Table:
    try:
        table = pa.ipc.open_file(mapped).read_all()
        format_of_file = json.loads(table.schema.metadata[b"segue"])["format"]
    except (pa.ArrowException, OSError, TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"data.path: {path} is no index of ours ({error}); pack the folder again"
        ) from error
    if format_of_file != FORMAT:
        raise UserError(
            f"data.path: {path} has format {format_of_file}, this version reads {FORMAT}; "
            "pack the folder again"
        )
    return table
