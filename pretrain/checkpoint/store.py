"""Where a run's checkpoints lie: a folder that all ranks see."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol

import xxhash

from pretrain.checkpoint.direct import DirectFile
from pretrain.checkpoint.manifest import (
    MANIFEST,
    MARKER,
    DamageError,
    FileSum,
    Manifest,
    mark_of,
    newest_first,
    parsed,
)
from shards.atomic import to_disk
from shards.checksum import measured

UNFINISHED = ".unfinished"


@dataclass(frozen=True, eq=False)
class Range:
    """Bytes of a file, from ``offset`` on, that are to be read into ``into``."""

    file: str
    offset: int
    into: memoryview


class Store(Protocol):
    """Checkpoints by name. OSError where the place cannot be read or written."""

    def names(self) -> list[str]:
        """All that are there, valid or not, the newest first."""
        ...

    def place(self, name: str) -> str:
        """Where one lies, to show to people."""
        ...

    def read(self, name: str, file: str) -> bytes:
        """A whole small file; DamageError where it is not there."""
        ...

    def read_ranges(self, name: str, ranges: Sequence[Range]) -> None:
        """Fill every range's ``into``; DamageError where its bytes are not there."""
        ...

    def check(self, name: str, file: str, expected: FileSum) -> None:
        """DamageError if the file is not as ``expected``."""
        ...

    def write(self, name: str, file: str, blocks: Iterable[memoryview]) -> FileSum:
        """Write a file of a checkpoint that is not committed yet. Any rank may call it."""
        ...

    def drop(self, name: str, file: str) -> None:
        """Remove what there is of a file of a checkpoint that was not committed."""
        ...

    def commit(self, name: str, manifest: Manifest) -> None:
        """Make a checkpoint of the files written under ``name``; OSError if one is not there."""
        ...

    def abandon(self, name: str) -> None:
        """Remove what there is of a checkpoint whose `commit` failed."""
        ...

    def remove(self, name: str) -> None:
        """Remove a checkpoint, its marker first."""
        ...

    def prepare(self) -> None:
        """Remove what was never committed, and try to write; only while nothing is being written.

        OSError if nothing can be written here.
        """
        ...


def read_manifest(store: Store, name: str) -> Manifest:
    """The manifest of a committed checkpoint; DamageError says what is wrong with it."""
    marker = store.read(name, MARKER)
    return parsed(store.read(name, MANIFEST), marker)


class LocalStore:
    """A folder of checkpoints on a file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """All folders that are named like checkpoints, the newest first."""
        found = [path.name for path in self.root.glob("epoch_*_step_*") if path.is_dir()]
        return newest_first(found)

    def place(self, name: str) -> str:
        """The folder's path."""
        return str(self.root / name)

    def read(self, name: str, file: str) -> bytes:
        """A whole small file."""
        try:
            return (self.root / name / file).read_bytes()
        except FileNotFoundError as error:
            raise DamageError(f"{file} is missing") from error
        except OSError as error:
            raise DamageError(f"{file} cannot be read: {error.strerror}") from error

    def read_ranges(self, name: str, ranges: Sequence[Range]) -> None:
        """Fill every range's ``into``, file by file."""
        for file, wanted in groupby(sorted(ranges, key=lambda one: one.file), lambda one: one.file):
            try:
                with (self.root / name / file).open("rb", buffering=0) as stream:
                    for one in wanted:
                        _read_all(stream.fileno(), one)
            except OSError as error:
                raise DamageError(f"{file} cannot be read: {error.strerror}") from error

    def check(self, name: str, file: str, expected: FileSum) -> None:
        """Read every byte of the file."""
        path = self.root / name / file
        if not path.is_file():
            raise DamageError(f"{file} is missing")
        size = path.stat().st_size
        if size != expected.bytes:
            raise DamageError(f"{file} has {size} bytes, {expected.bytes} were saved")
        try:
            found = f"{measured(path)[1]:016x}"
        except OSError as error:
            raise DamageError(f"{file} cannot be read: {error.strerror}") from error
        if found != expected.xxh3:
            raise DamageError(f"{file} has other bytes than were saved")

    def write(self, name: str, file: str, blocks: Iterable[memoryview]) -> FileSum:
        """Write aside and to the disk."""
        return written(self.aside(name) / file, blocks)

    def drop(self, name: str, file: str) -> None:
        """Remove a file that lies aside."""
        with suppress(OSError):
            (self.aside(name) / file).unlink(missing_ok=True)

    def commit(self, name: str, manifest: Manifest) -> None:
        """Look at the files, which other machines may have written; put the folder in its place;
        mark it."""
        aside, final = self.aside(name), self.root / name
        for file, total in manifest.files.items():
            size = (aside / file).stat().st_size
            if size != total.bytes:
                raise OSError(None, f"{size} of {total.bytes} bytes are there", str(aside / file))
        text = manifest.model_dump_json(indent=1).encode()
        _write_durably(aside / MANIFEST, text)
        to_disk(aside)
        if final.exists():  # damaged, or of a start that went another way
            self.remove(name)
        os.rename(aside, final)
        to_disk(self.root)
        _write_durably(final / f".{MARKER}", mark_of(text))
        os.rename(final / f".{MARKER}", final / MARKER)
        to_disk(final)

    def abandon(self, name: str) -> None:
        """Remove it aside and in its place."""
        shutil.rmtree(self.aside(name), ignore_errors=True)
        self.remove(name)

    def remove(self, name: str) -> None:
        """Without its marker it no longer exists, whatever happens during the removal."""
        try:
            (self.root / name / MARKER).unlink(missing_ok=True)
        except OSError:
            return
        shutil.rmtree(self.root / name, ignore_errors=True)

    def prepare(self) -> None:
        """Put something aside, remove all that lies there."""
        self.aside("writable").mkdir(parents=True, exist_ok=True)
        for leftover in self.root.glob(f"*{UNFINISHED}"):
            shutil.rmtree(leftover, ignore_errors=True)

    def aside(self, name: str) -> Path:
        """Where a checkpoint is written before it is committed."""
        return self.root / f"{name}{UNFINISHED}"


def written(path: Path, blocks: Iterable[memoryview]) -> FileSum:
    """What was written to ``path`` and the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, size = xxhash.xxh3_64(), 0
    with DirectFile(path) as direct:
        for block in blocks:
            digest.update(block)
            size += len(block)
            direct.write(block)
    return FileSum(bytes=size, xxh3=digest.hexdigest())


def _read_all(handle: int, wanted: Range) -> None:
    done = 0
    while done < len(wanted.into):
        count = os.preadv(handle, [wanted.into[done:]], wanted.offset + done)
        if count == 0:
            raise DamageError(f"{wanted.file} ends early")
        done += count


def _write_durably(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    to_disk(path)


def newest(store: Store) -> Iterator[tuple[str, Manifest | DamageError]]:
    """Every checkpoint from the newest on, with its manifest or what is wrong with that."""
    for name in store.names():
        try:
            yield name, read_manifest(store, name)
        except DamageError as damage:
            yield name, damage
