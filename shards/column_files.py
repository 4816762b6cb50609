"""Columns of an index that grow in files and are then used as they lie there."""

from __future__ import annotations

import mmap
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from shards.errors import UserError
from shards.index import MEMBER

_MEMBER_NUMBERS = {"offset": np.int64, "size": np.int64, "checksum": np.uint64}


class NumbersFile:
    """A column of numbers that grows in a nameless file in the folder ``scratch``."""

    def __init__(self, scratch: Path, kind: Any) -> None:
        self._kind = np.dtype(kind)
        self._sum = xxhash.xxh3_64()
        self._file = TemporaryFile(dir=scratch)
        self.count = 0

    def add(self, table: pa.Table, name: str) -> None:
        """Append a column of ``table``, or as many zeros (figures: NaN) if it has none.

        What is a figure here may be a length in another table: then that is not this column.
        """
        floats = self._kind.kind == "f"
        if name in table.column_names:
            column = table.column(name)
            if pa.types.is_floating(column.type) == floats:
                self.extend(column.to_numpy())
                return
        self.extend(np.full(table.num_rows, np.nan if floats else 0))

    def extend(self, values: npt.NDArray[Any]) -> None:
        data = np.ascontiguousarray(values, dtype=self._kind).tobytes()
        self._file.write(data)
        self._sum.update(data)
        self.count += len(values)

    def digest(self) -> str:
        return str(self._sum.hexdigest())

    def array(self) -> pa.Array:
        """The column as a view of its file."""
        return pa.Array.from_buffers(
            pa.from_numpy_dtype(self._kind), self.count, [None, self.buffer()]
        )

    def buffer(self) -> pa.Buffer:
        if self.count == 0:
            return pa.py_buffer(b"")
        self._file.flush()
        return pa.py_buffer(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))


class StringsFile:
    """A column of strings: where each ends, and their bytes one after another."""

    def __init__(self, scratch: Path) -> None:
        self._starts = NumbersFile(scratch, np.int64)
        self._text = NumbersFile(scratch, np.uint8)
        self._starts.extend(np.zeros(1))

    def add(self, column: pa.ChunkedArray) -> None:
        texts = pa.concat_arrays([chunk.cast(pa.large_string()) for chunk in column.chunks])
        _, starts, data = texts.buffers()
        offsets = np.frombuffer(starts, np.int64)[texts.offset : texts.offset + len(texts) + 1]
        if len(texts) == 0 or data is None:
            self._starts.extend(np.full(len(texts), self._text.count))
            return
        self._starts.extend(offsets[1:] - offsets[0] + self._text.count)
        self._text.extend(np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]])

    def digest(self) -> str:
        return self._starts.digest() + self._text.digest()

    def array(self) -> pa.Array:
        buffers = [None, self._starts.buffer(), self._text.buffer()]
        return pa.Array.from_buffers(pa.large_string(), self._starts.count - 1, buffers)


class NamesFile:
    """A column of few different strings: the strings once, in memory, and their numbers."""

    def __init__(self, scratch: Path) -> None:
        self._numbers = NumbersFile(scratch, np.int32)
        self._known: dict[str, int] = {}

    def add(self, column: pa.ChunkedArray) -> None:
        for chunk in column.chunks:
            self.extend(chunk)

    def extend(self, chunk: pa.Array) -> None:
        coded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        ours = [
            self._known.setdefault(name, len(self._known)) for name in coded.dictionary.to_pylist()
        ]
        numbers = np.array(ours, dtype=np.int32)
        self._numbers.extend(numbers[coded.indices.to_numpy()] if len(coded) else numbers[:0])

    def digest(self) -> str:
        return self._numbers.digest() + xxhash.xxh3_64_hexdigest("\0".join(self._known).encode())

    def array(self) -> pa.Array:
        known = pa.array(list(self._known), type=pa.string())
        return pa.DictionaryArray.from_arrays(self._numbers.array(), known)


class MembersFile:
    """The column of lists of members."""

    def __init__(self, scratch: Path) -> None:
        self._starts = NumbersFile(scratch, np.int32)
        self._starts.extend(np.zeros(1))
        self._name = NamesFile(scratch)
        self._numbers = {name: NumbersFile(scratch, kind) for name, kind in _MEMBER_NUMBERS.items()}
        self._count = 0

    def add(self, column: pa.ChunkedArray) -> None:
        for chunk in column.chunks:
            values = chunk.flatten()
            self._starts.extend(np.cumsum(pc.list_value_length(chunk).to_numpy()) + self._count)
            self._name.extend(values.field("name"))
            for name, numbers in self._numbers.items():
                numbers.extend(values.field(name).to_numpy())
            self._count += len(values)
        if self._count >= 2**31:
            raise UserError(
                f"SOURCE: {self._count:,} files are more than one index can list; pack the corpus "
                "into several folders, which a run takes as data.sources"
            )

    def digest(self) -> str:
        parts = [self._starts.digest(), self._name.digest()]
        return "".join([*parts, self._numbers["size"].digest(), self._numbers["checksum"].digest()])

    def array(self) -> pa.Array:
        numbers = [self._numbers[name].array() for name in _MEMBER_NUMBERS]
        values = pa.StructArray.from_arrays([self._name.array(), *numbers], fields=list(MEMBER))
        return pa.ListArray.from_arrays(self._starts.array(), values)
