"""Finding lines of a large text file by their names."""

from __future__ import annotations

from array import array
from pathlib import Path
from types import TracebackType

import numpy as np
import xxhash

BOM = b"\xef\xbb\xbf"


class NamedLines:
    """The lines of a file that have ``fields`` fields, tabs between them; the first is the name.

    Only a hash and a place are held: 16 bytes a line (40 while it is opened). Where lines share
    a name, the last is meant.
    """

    def __init__(self, path: Path, fields: int) -> None:
        self._file = path.open("rb")
        hashes, starts = array("Q"), array("q")
        start = len(BOM) if self._file.read(len(BOM)) == BOM else 0
        self._file.seek(start)
        for line in self._file:
            if line.count(b"\t") == fields - 1:
                hashes.append(_hash(line))
                starts.append(start)
            start += len(line)
        order = np.argsort(np.frombuffer(hashes, np.uint64), kind="stable")
        self._hashes = np.frombuffer(hashes, np.uint64)[order]
        self._starts = np.frombuffer(starts, np.int64)[order]

    def __enter__(self) -> NamedLines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def find(self, name: bytes) -> bytes | None:
        """The line of ``name`` without its end, or None."""
        hashed = np.uint64(_hash(name))
        first, last = (int(self._hashes.searchsorted(hashed, side)) for side in ("left", "right"))
        for start in reversed(self._starts[first:last]):
            self._file.seek(start)
            line = self._file.readline()
            if line.partition(b"\t")[0] == name:
                return line.rstrip(b"\r\n")
        return None


def _hash(line: bytes) -> int:
    return xxhash.xxh3_64_intdigest(line.partition(b"\t")[0])
