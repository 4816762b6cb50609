"""Tars of clips as WebDataset has them: neighbouring files of one key are one clip."""

from __future__ import annotations

import errno
import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from shards.audio import EXTENSIONS
from shards.errors import UserError
from shards.json_facts import (
    Description,
    UnusableError,
    described,
    free_column,
    parse_object,
)

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
AUDIO = frozenset(suffix.removeprefix(".") for suffix in EXTENSIONS)
_PACKED = re.compile(rb"\x1f\x8b|BZh[1-9]1AY&SY|\xfd7zXZ|\x28\xb5\x2f\xfd")
"""How gzip, bzip2, xz and zstd files begin."""
_BROKEN = (tarfile.TarError, ValueError, ArithmeticError, LookupError, MemoryError)
"""What tarfile raises for damaged headers."""
_ABOUT_THE_TAR = re.compile(r"__[^/]*__($|/)")
"""Names that WebDataset skips."""


@dataclass(frozen=True)
class TarMember:
    """A file in a tar: its extension in lower case, where its bytes begin, how many there are."""

    extension: str
    offset: int
    size: int


@dataclass(frozen=True)
class TarClip:
    """The neighbouring files of one key, in order."""

    key: str
    members: tuple[TarMember, ...]

    @cached_property
    def audio(self) -> TarMember | None:
        """The file that is heard: KEY.wav, or else the first like KEY.16k.wav."""
        place = heard([member.extension for member in self.members])
        return None if place is None else self.members[place]

    @property
    def json(self) -> TarMember | None:
        """The facts, KEY.json."""
        return self._named("json")

    @property
    def txt(self) -> TarMember | None:
        """The transcript, KEY.txt."""
        return self._named("txt")

    @property
    def carried(self) -> tuple[TarMember, ...]:
        """All files but the audio and the facts."""
        return tuple(m for m in self.members if m not in (self.audio, self.json))

    def _named(self, extension: str) -> TarMember | None:
        return next((m for m in self.members if m.extension == extension), None)


def heard(extensions: Sequence[str]) -> int | None:
    """Which of a clip's files is its audio, None if none is; see `TarClip.audio`."""
    whole = (n for n, extension in enumerate(extensions) if extension in AUDIO)
    last = (n for n, extension in enumerate(extensions) if extension.rpartition(".")[2] in AUDIO)
    return next(whole, next(last, None))


@dataclass(frozen=True)
class TarFlaw:
    """What cannot be used: files of ``key``, or "" for the rest of the tar, and why."""

    key: str
    reason: str
    figure: str = ""


class _TornError(Exception):
    """The tar cannot be read beyond the byte given."""


@dataclass(frozen=True)
class _Entry:
    key: str
    member: TarMember


@contextmanager
def open_tar(path: Path) -> Iterator[BinaryIO]:
    """The file of a tar; UserError if it is compressed: nothing in it could be found by place."""
    with path.open("rb") as file:
        if _PACKED.match(file.read(10)):
            raise UserError(f"SOURCE: {path} is compressed; unpack it to a plain .tar")
        file.seek(0)
        yield file


def tar_clips(file: BinaryIO) -> Iterator[TarClip | TarFlaw]:
    """The clips of a tar in order, from its headers alone; ``file`` may be moved meanwhile.

    A torn tar gives the clips before the one that adjoins the damage, and a flaw.
    """
    seen: set[str] = set()
    try:
        for key, entries in groupby(_entries(file), lambda entry: entry.key):
            members = tuple([entry.member for entry in entries])
            yield _clip(key, members, key in seen)
            seen.add(key)
    except _TornError as torn:
        yield TarFlaw("", "a torn tar; its end is lost", f"after byte {torn}")


def _clip(key: str, members: tuple[TarMember, ...], seen: bool) -> TarClip | TarFlaw:
    extensions = [member.extension for member in members]
    if not _is_unicode("/".join([key, *extensions])):
        return TarFlaw(key.encode("utf-8", "backslashreplace").decode(), "a name that is not UTF-8")
    if seen:
        return TarFlaw(key, "files of one key that lie apart in the tar", ", ".join(extensions))
    if len(set(extensions)) < len(extensions):
        return TarFlaw(key, "two files of one key and extension", ", ".join(extensions))
    return TarClip(key, members)


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _entries(file: BinaryIO) -> Iterator[_Entry]:
    """All files with a key and an extension; _TornError where the tar is."""
    end = file.seek(0, os.SEEK_END)
    for info in _headers(file):
        if info.size < 0 or (info.isfile() and info.size > end - info.offset_data):
            raise _TornError(info.offset)
        entry = _entry(info)
        if entry is not None:
            yield entry


def _headers(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    file.seek(0)
    at = 0
    try:
        tar = tarfile.TarFile(fileobj=file, encoding="utf-8")
        while (info := tar.next()) is not None:
            at = info.offset
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep every header
            yield info
        at = tar.offset
        ended = _is_end(file, at)
    except _BROKEN as error:
        raise _TornError(at) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a header can send it to a place before the first byte
            raise
        raise _TornError(at) from error
    if not ended:
        raise _TornError(at)


def _is_end(file: BinaryIO, at: int) -> bool:
    """Whether there are zeros and nothing else: tarfile takes a broken header for the end, too."""
    file.seek(at)
    first = file.read(tarfile.BLOCKSIZE)
    pieces = chain([first], iter(lambda: file.read(1 << 20), b""))
    return len(first) == tarfile.BLOCKSIZE and not any(piece.strip(b"\0") for piece in pieces)


def _entry(info: tarfile.TarInfo) -> _Entry | None:
    folder, slash, base = info.name.rpartition("/")
    stem, _, extension = base.partition(".")
    if not (info.isfile() and stem and extension) or info.issparse():
        return None
    if _ABOUT_THE_TAR.match(info.name):
        return None
    member = TarMember(extension.lower(), info.offset_data, info.size)
    return _Entry(f"{folder}{slash}{stem}", member)


def read_member(file: BinaryIO, member: TarMember) -> bytes:
    """The bytes of a member; UnusableError if the tar has become shorter."""
    file.seek(member.offset)
    data = file.read(member.size)
    if len(data) < member.size:
        raise UnusableError("the tar ends within a file")
    return data


def describe(clip: TarClip, read: Callable[[TarMember], bytes]) -> Description:
    """What a clip's .json says, and its .txt where that has no text.

    UnusableError if they are broken or its audio is empty.
    """
    if clip.audio is not None and clip.audio.size == 0:
        raise UnusableError("the audio is empty")
    said = described(parse_object(read(clip.json)) if clip.json else {})
    if clip.txt is None:
        return said
    try:
        text = read(clip.txt).decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise UnusableError("text that is not UTF-8") from error
    return replace(said, text=said.text if said.text.strip() else text)


def is_array(member: TarMember) -> bool:
    """Whether it is a .npy file."""
    return member.extension.rpartition(".")[2] == "npy"


def array_column(member: TarMember) -> str:
    """What the index calls the length of a .npy file; UnusableError if it cannot be called so."""
    name = member.extension.removesuffix(".npy")
    if not free_column(name):
        raise UnusableError("an array with a name that no column can have", member.extension)
    return name


def read_array(data: bytes) -> npt.NDArray[Any]:
    """The array of a .npy file; UnusableError if it is none, has no axes or holds objects."""
    try:
        array: npt.NDArray[Any] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # a broken header fails in many ways
        raise UnusableError("an array that cannot be read", str(error)) from error
    if array.ndim == 0:
        raise UnusableError("an array without axes")
    return array
