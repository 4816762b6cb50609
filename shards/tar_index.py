"""Indexing foreign tars where they lie: the rows of one tar from one reading of it."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import xxhash

from shards.audio import UNREADABLE, AudioPlace, measure
from shards.index import ClipRow, Member, ShardFacts
from shards.json_facts import Description, UnusableError
from shards.sources.paths import printable
from shards.sources.source import Reject
from shards.tars import (
    TarClip,
    TarFlaw,
    TarMember,
    array_column,
    describe,
    is_array,
    open_tar,
    read_array,
    tar_clips,
)

PIECE = 1 << 24
"""Bytes that are hashed at a time."""


@dataclass(frozen=True)
class ScannedShard:
    """A tar's clips in order, what in it cannot be used, and the tar itself."""

    rows: list[ClipRow]
    rejects: list[Reject]
    shard: ShardFacts


def scan_shard(root: Path, name: str) -> ScannedShard:
    """Read the tar ``root/name`` once, front to back.

    Keys are WebDataset's. Clips whose JSON names no source have the root folder's name as theirs.
    UserError where the tar is compressed.
    """
    rows: list[ClipRow] = []
    rejects: list[Reject] = []
    path = root / name
    with open_tar(path) as file, _mapped(file) as view:
        scan = _Scan(path, name, printable(root.absolute().name), view)
        whole = _Sum(view)
        for found in tar_clips(file):
            row = scan.row(found)
            if isinstance(row, Reject):
                rejects.append(row)
            else:
                rows.append(row)
                whole.reach(row.offset + row.size)  # while its pages are still in memory
        whole.reach(len(view))
        shard = ShardFacts(name, len(rows), len(view), whole.digest())
    return ScannedShard(rows, rejects, shard)


def tar_places(path: Path) -> tuple[dict[str, tuple[Member, ...]], int]:
    """The members of each key of a sound tar, in order, and the xxh3 of the whole file."""
    with open_tar(path) as file, _mapped(file) as view:
        clips = [clip for clip in tar_clips(file) if isinstance(clip, TarClip)]
        places = {clip.key: tuple(_placed(view, m) for m in clip.members) for clip in clips}
        return places, xxhash.xxh3_64_intdigest(view)


def _placed(view: memoryview, member: TarMember) -> Member:
    with view[member.offset : member.offset + member.size] as data:
        checksum = xxhash.xxh3_64_intdigest(data)
    return Member(member.extension, member.offset, member.size, checksum)


@contextmanager
def _mapped(file: BinaryIO) -> Iterator[memoryview]:
    if file.seek(0, 2) == 0:  # nothing cannot be mapped
        yield memoryview(b"")
        return
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
        yield view


class _Sum:
    """The xxh3 of a file, taken as far as it has been read."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._sum, self._done = view, xxhash.xxh3_64(), 0

    def reach(self, end: int) -> None:
        while self._done < end:
            until = min(end, self._done + PIECE)
            with self._view[self._done : until] as piece:
                self._sum.update(piece)
            self._done = until

    def digest(self) -> int:
        return int(self._sum.intdigest())


@dataclass(frozen=True)
class _Scan:
    path: Path
    shard: str
    source: str
    view: memoryview

    def row(self, found: TarClip | TarFlaw) -> ClipRow | Reject:
        if isinstance(found, TarFlaw):
            return self._reject(found.key or self.shard, found.reason, found.figure)
        try:
            return self._row(found)
        except UnusableError as error:
            return self._reject(found.key, error.reason, error.figure)

    def _reject(self, name: str, reason: str, figure: str) -> Reject:
        return Reject(name, reason, figure, printable(str(self.path)))

    def _row(self, clip: TarClip) -> ClipRow:
        said = describe(clip, self._read)
        arrays = dict(self._arrays(clip))
        first, last = clip.members[0], clip.members[-1]
        return ClipRow(
            key=clip.key,
            shard=self.shard,
            offset=first.offset,
            size=last.offset + last.size - first.offset,
            members=tuple(_placed(self.view, member) for member in clip.members),
            seconds=self._seconds(clip, said),
            speaker=said.speaker,
            language=said.language,
            source=_source(said) or self.source,
            lengths={name: array.shape[-1] for name, array in arrays.items()},
            largest={
                name: int(array.max())
                for name, array in arrays.items()
                if np.issubdtype(array.dtype, np.integer) and array.size
            },
            figures={name: value for name, value in said.figures.items() if name not in arrays},
        )

    def _read(self, member: TarMember) -> bytes:
        return bytes(self.view[member.offset : member.offset + member.size])

    def _arrays(self, clip: TarClip) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        for member in clip.members:
            if is_array(member):
                yield array_column(member), read_array(self._read(member))

    def _seconds(self, clip: TarClip, said: Description) -> float:
        if said.seconds is not None:
            return said.seconds
        if clip.audio is None:
            raise UnusableError("neither audio nor a length")
        try:
            seconds = measure(AudioPlace(self.path, clip.audio.offset, clip.audio.size))
        except UNREADABLE as error:
            raise UnusableError("audio cannot be read", str(error)) from error
        if seconds <= 0:
            raise UnusableError("the audio is empty")
        return seconds


def _source(said: Description) -> str:
    named = said.facts.get("source")
    return "" if named is None or isinstance(named, (dict, list)) else str(named)
