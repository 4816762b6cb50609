"""Numbers of an index that may be larger than memory should be: read by position, not mapped.

Rows are asked for all over the file. Through a memory map every one of them would leave pages, up
to megabytes each, in the process; read, they stay in the kernel's cache alone.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PAGE = 4096
MAPPED_BYTES = 8 << 20
"""Columns up to this size are used through the map, which is faster."""


class IndexFile:
    """The file behind an index, open for reads by position on both sides of a fork.

    It is opened at once: another file may later take its name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __reduce__(self) -> tuple[type[IndexFile], tuple[Path]]:
        return IndexFile, (self.path,)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def mapped(self) -> mmap.mmap:
        """The whole file; ValueError if it is empty."""
        return mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)

    def read(self, start: int, size: int) -> bytes:
        """``size`` bytes from ``start`` on, fewer at the file's end."""
        return os.pread(self._descriptor, size, start)


@dataclass(frozen=True)
class Column:
    """A column of numbers: ``view`` of the map, and where the same bytes begin in the file."""

    view: npt.NDArray[Any]
    file: IndexFile
    start: int

    def take(self, rows: npt.NDArray[np.integer]) -> npt.NDArray[Any]:
        """The numbers at ``rows``, [rows]."""
        if self.view.nbytes <= MAPPED_BYTES:
            taken: npt.NDArray[Any] = self.view[rows]
            return taken
        places = self.start + rows.astype(np.int64) * self.view.itemsize
        pages, page = np.unique(places // PAGE, return_inverse=True)
        # Arrow aligns columns to 8 bytes, so that no number lies across two pages.
        data = b"".join([self.file.read(n * PAGE, PAGE).ljust(PAGE) for n in pages.tolist()])
        numbers: npt.NDArray[Any] = np.frombuffer(data, dtype=self.view.dtype)
        found: npt.NDArray[Any] = numbers[(page * PAGE + places % PAGE) // self.view.itemsize]
        return found

    def slice(self, start: int, stop: int) -> npt.NDArray[Any]:
        """The numbers of rows ``start`` to ``stop - 1``."""
        if self.view.nbytes <= MAPPED_BYTES:
            return self.view[start:stop]
        size = self.view.itemsize
        data = self.file.read(self.start + start * size, (stop - start) * size)
        return np.frombuffer(data, dtype=self.view.dtype)
