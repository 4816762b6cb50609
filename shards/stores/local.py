"""Shards in a folder of this machine or of a file system mounted on it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from shards.stores.retry import Patience, persist
from shards.stores.store import ReadFailure, Span

OPEN_FILES = 64

# What network file systems say while a server restarts or a path is lost; a local disk's EIO too.
_PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.ECONNRESET,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EIO,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENOTCONN,
    errno.EREMOTEIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
}


class _OpenFile:
    """A file descriptor that is closed with its last reference, so never under a reader."""

    __slots__ = ("descriptor",)

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class LocalStore:
    """Reads by position and keeps the last 64 files open; a memory map would die of a cut file.

    ``names`` gives the file of a shard where it is not called like the shard.
    """

    def __init__(
        self, folder: Path, patience: Patience, names: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self.patience, self.names = folder, patience, names or {}
        self._files: dict[str, _OpenFile] = {}  # the one used last is the last

    def __reduce__(self) -> tuple[type[LocalStore], tuple[object, ...]]:
        return LocalStore, (self.folder, self.patience, self.names)

    def fetch(self, spans: Sequence[Span]) -> list[bytes | ReadFailure]:
        return persist(self._read, spans, self.patience)

    def expect(self, shards: Iterable[str]) -> None:
        """Nothing: the kernel reads ahead by itself."""

    def holds(self, shard: str) -> bool:
        """Whether the shard is open, so that it can be read even if it is deleted meanwhile."""
        return shard in self._files

    def release_deleted(self) -> None:
        """Close files that have no name any more: they fill the disk as long as they are open."""
        for shard, file in list(self._files.items()):
            if os.fstat(file.descriptor).st_nlink == 0:
                del self._files[shard]

    def _read(self, spans: Sequence[Span], _tries: int) -> list[bytes | ReadFailure]:
        answers: list[bytes | ReadFailure] = []
        files, pread = self._files, os.pread
        for shard, offset, size in spans:
            try:
                file = files.pop(shard, None) or self._open(shard)
                files[shard] = file
                data = pread(file.descriptor, size, offset)
                answers.append(data if len(data) == size else self._reread(shard, offset, size))
            except OSError as error:
                answers.append(self._failure(shard, error))
        return answers

    def _open(self, shard: str) -> _OpenFile:
        for oldest in list(self._files)[: len(self._files) - OPEN_FILES + 1]:
            self._files.pop(oldest, None)
        return _OpenFile(f"{self.folder}/{self.names.get(shard, shard)}")

    def _reread(self, shard: str, offset: int, size: int) -> bytes | ReadFailure:
        # Someone may have put a whole file in the place of the one that we hold open.
        file = self._files[shard] = self._open(shard)
        data = _read_on(file.descriptor, offset, size)
        if len(data) == size:
            return data
        end = os.fstat(file.descriptor).st_size
        return ReadFailure(shard, f"{shard} ends at byte {end}, {offset + size} were indexed")

    def _failure(self, shard: str, error: OSError) -> ReadFailure:
        self._files.pop(shard, None)
        if isinstance(error, FileNotFoundError):
            return ReadFailure(shard, f"{shard} is not in {self.folder}")
        reason = f"{self.folder / shard}: {error.strerror}"
        return ReadFailure(shard, reason, passing=error.errno in _PASSING)


def _read_on(descriptor: int, offset: int, size: int) -> bytes:
    """Up to ``size`` bytes, fewer only at the file's end: one call may give fewer earlier."""
    pieces: list[bytes] = []
    while size > 0 and (piece := os.pread(descriptor, size, offset)):
        pieces.append(piece)
        offset, size = offset + len(piece), size - len(piece)
    return b"".join(pieces)
