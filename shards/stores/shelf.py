"""The folder of copies that the processes of a machine share: who copies what, what has to go."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import xxhash

from shards.index import ShardFacts

# Only what is called like this is ever deleted: the folder is the user's and may hold more.
_FOLDERS = "segue-" + "[0-9a-f]" * 16
_COPY = re.compile(r"[^.].*\.[0-9a-f]{16}")
_PART = re.compile(r"\..+\.[0-9a-f]{16}\.(\d+)\.part")


@dataclass(frozen=True)
class _Held:
    """A copy, or with ``part`` one under way: its path, the bytes it takes, its last use."""

    path: Path
    bytes: int
    used: float
    part: bool


class Shelf:
    """Whole shards of one location in ``root``, which all locations share.

    A copy's name has its checksum, so that shards packed anew are other files. A copy under way
    has its final size in its name and is locked by whoever writes it: its room is taken from the
    beginning, and what a killed process left behind is the file that nobody has locked.
    """

    def __init__(self, root: Path, location: str, facts: Mapping[str, ShardFacts]) -> None:
        self.root = root
        self.folder = folder_of(root, location)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.names = {shard: file_name(about) for shard, about in facts.items()}

    def path(self, about: ShardFacts) -> Path:
        """Where the whole shard is once it is there."""
        return self.folder / self.names[about.name]

    def has(self, about: ShardFacts) -> bool:
        """Whether the shard is there; one of another size, as a crash may leave it, is not."""
        with suppress(FileNotFoundError):
            return self.path(about).stat().st_size == about.bytes
        return False

    def part(self, about: ShardFacts) -> Path:
        """Where the shard is written until it is whole."""
        return self.folder / f".{self.names[about.name]}.{about.bytes}.part"

    @contextmanager
    def claim(self, about: ShardFacts) -> Iterator[bool]:
        """Whether this thread may now write ``part``; it is gone after the block or was renamed."""
        part = self.part(about)
        with _locked(part, os.O_CREAT) as descriptor:
            try:
                yield descriptor is not None
            finally:
                # Once renamed, the name may already be the next writer's.
                if descriptor is not None and _is_named(descriptor, part):
                    part.unlink()

    def idle_seconds(self, about: ShardFacts) -> float:
        """Seconds since someone wrote a byte of the part; 0 where there is none."""
        with suppress(FileNotFoundError):
            return time.time() - self.part(about).stat().st_mtime
        return 0.0

    def touch(self, about: ShardFacts) -> None:
        """Count the copy as used now."""
        with suppress(FileNotFoundError):
            os.utime(self.path(about))

    def make_room(self, limit: int) -> bool:
        """Delete the longest unused copies until all others take ``limit`` bytes at most.

        False where what is being copied takes more than that.
        """
        self._sweep()
        held = list(self._held())
        if sum(entry.bytes for entry in held if entry.part) > limit:
            return False
        total = sum(entry.bytes for entry in held)
        for entry in sorted(held, key=lambda entry: entry.used):
            if total > limit and not entry.part:
                entry.path.unlink(missing_ok=True)
                total -= entry.bytes
        return True

    def _held(self) -> Iterator[_Held]:
        for path in self.root.glob(f"{_FOLDERS}/*"):
            part = _PART.fullmatch(path.name)
            if part or _COPY.fullmatch(path.name):
                with suppress(FileNotFoundError):
                    status = path.stat()
                    size = int(part[1]) if part else status.st_size
                    yield _Held(path, size, status.st_mtime, part is not None)

    def _sweep(self) -> None:
        for path in self.root.glob(f"{_FOLDERS}/.*.part"):
            with suppress(FileNotFoundError), _locked(path) as descriptor:
                if descriptor is not None and _PART.fullmatch(path.name):
                    path.unlink()


def folder_of(root: Path, location: str) -> Path:
    """The folder of what was copied from a location."""
    return root / f"segue-{xxhash.xxh3_64_hexdigest(location.rstrip('/').encode())}"


def file_name(about: ShardFacts) -> str:
    """The file name of a copy of the shard."""
    return f"{about.name.replace('/', '_').lstrip('.')}.{about.checksum:016x}"


@contextmanager
def _locked(path: Path, flags: int = 0) -> Iterator[int | None]:
    """The open file where nobody else, thread or process, has it locked; else None."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o644)
    try:
        yield descriptor if _lock(descriptor) and _is_named(descriptor, path) else None
    finally:
        # In so many words: a child forked meanwhile has a copy of the descriptor, and with it the
        # lock would outlive the closing of ours.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _is_named(descriptor: int, path: Path) -> bool:
    """Whether the name still is this file's: it may have been renamed before the lock was ours."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False
