"""Checkpoints on a server, through fsspec: s3:// and the like."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pretrain.checkpoint.manifest import (
    MANIFEST,
    MARKER,
    DamageError,
    FileSum,
    Manifest,
    mark_of,
    newest_first,
)
from pretrain.checkpoint.store import Range, written
from shards.errors import UserError
from shards.stores.remote import open_location

_T = TypeVar("_T")


class ServerError(UserError, OSError):
    """What went wrong between this machine and a server."""


class AbsentError(ServerError):
    """The server knows no such file."""


class RemoteStore:
    """Checkpoints below a URL. A rank's file is written to ``scratch`` and uploaded from there.

    There are no folders to rename on a server: what has no marker does not exist. A restore asks
    for the bytes that a rank needs; whole files are checked by their sizes, the rest servers do.
    """

    def __init__(self, url: str, scratch: Path) -> None:
        self.url = url.rstrip("/")
        self._scratch = scratch

    def names(self) -> list[str]:
        """All that are named like checkpoints, the newest first."""
        try:
            listed = self._asked(lambda: self._files.ls(self._root, detail=False, refresh=True))
        except AbsentError:
            return []
        found = {str(path).rstrip("/").rpartition("/")[2] for path in listed}
        return newest_first(found)

    def place(self, name: str) -> str:
        """The URL."""
        return f"{self.url}/{name}"

    def read(self, name: str, file: str) -> bytes:
        """A whole small file."""
        content: bytes = self._found(file, lambda: self._files.cat_file(self._path(name, file)))
        return content

    def read_ranges(self, name: str, ranges: Sequence[Range]) -> None:
        """Ask for all of them at once."""
        starts = [one.offset for one in ranges]
        ends = [one.offset + len(one.into) for one in ranges]
        paths = [self._path(name, one.file) for one in ranges]
        found: list[bytes] = self._found(
            ranges[0].file, lambda: self._files.cat_ranges(paths, starts, ends, on_error="raise")
        )
        for one, content in zip(ranges, found, strict=True):
            if len(content) != len(one.into):
                raise DamageError(f"{one.file} ends early")
            one.into[:] = content

    def check(self, name: str, file: str, expected: FileSum) -> None:
        """Compare the size that the server tells."""
        about = self._found(file, lambda: self._files.info(self._path(name, file)))
        if about["size"] != expected.bytes:
            raise DamageError(f"{file} has {about['size']} bytes, {expected.bytes} were saved")

    def write(self, name: str, file: str, blocks: Iterable[memoryview]) -> FileSum:
        """Write it here, then upload it."""
        local = self._local(name, file)
        try:
            total = written(local, blocks)
            self._asked(lambda: self._files.put_file(str(local), self._path(name, file)))
        finally:
            local.unlink(missing_ok=True)
        return total

    def drop(self, name: str, file: str) -> None:
        """Remove a file there; `write` left none here."""
        self._quietly(lambda: self._files.rm_file(self._path(name, file)))

    def commit(self, name: str, manifest: Manifest) -> None:
        """Upload the manifest, then the marker."""
        self._files.invalidate_cache()
        try:
            for file, total in manifest.files.items():
                self.check(name, file, total)
        except DamageError as damage:
            raise ServerError(f"{self.place(name)}: {damage}") from damage
        text = manifest.model_dump_json(indent=1).encode()
        self._asked(lambda: self._files.pipe_file(self._path(name, MANIFEST), text))
        self._asked(lambda: self._files.pipe_file(self._path(name, MARKER), mark_of(text)))
        self._files.invalidate_cache()

    def abandon(self, name: str) -> None:
        """The same as `remove`."""
        self.remove(name)

    def remove(self, name: str) -> None:
        """Its marker first."""
        self._quietly(lambda: self._files.rm_file(self._path(name, MARKER)))
        self._quietly(lambda: self._files.rm(f"{self._root}/{name}", recursive=True))

    def prepare(self) -> None:
        """Remove what has no marker, and what was not uploaded; try to write."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        probe = f"{self._root}/writable"
        self._asked(lambda: self._files.pipe_file(probe, b"yes"))
        self._asked(lambda: self._files.rm_file(probe))
        for name in self.names():
            marker = self._path(name, MARKER)
            if not self._asked(partial(self._files.exists, marker)):
                self.remove(name)

    def _local(self, name: str, file: str) -> Path:
        return self._scratch / f"{name}_{file}"

    @property
    def _files(self) -> Any:
        return open_location(self.url)[0]

    @property
    def _root(self) -> str:
        return open_location(self.url)[1]

    def _path(self, name: str, file: str) -> str:
        return f"{self._root}/{name}/{file}"

    def _asked(self, question: Callable[[], _T]) -> _T:
        """The server's answer; ServerError for whatever its library raises."""
        try:
            return question()
        except Exception as error:
            kind = AbsentError if isinstance(error, FileNotFoundError) else ServerError
            why = str(error) or type(error).__name__
            raise kind(
                f"{self.url}: {why}; check the address, the credentials and the network"
            ) from error

    def _found(self, file: str, question: Callable[[], _T]) -> _T:
        try:
            return self._asked(question)
        except AbsentError as error:
            raise DamageError(f"{file} is missing") from error

    def _quietly(self, question: Callable[[], object]) -> None:
        try:
            self._asked(question)
        except OSError:
            return  # it is not there, or the next start finds it
