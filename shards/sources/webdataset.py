"""WebDataset tars, foreign or our own, to be packed again."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from shards.audio import EXTENSIONS, AudioPlace
from shards.errors import UserError
from shards.index import FILE_NAME
from shards.json_facts import Description, UnusableError
from shards.pack.keys import key_of
from shards.pack.state import SETTINGS
from shards.sources.paths import is_file, printable
from shards.sources.source import Members, Recording, Reject, Source
from shards.tars import (
    COMPRESSED,
    TarClip,
    TarFlaw,
    TarMember,
    array_column,
    describe,
    is_array,
    open_tar,
    read_array,
    read_member,
    tar_clips,
)

if TYPE_CHECKING:
    from shards.pack.config import PackConfig

LOOKED_AT = 2000
"""Files and folders that recognition looks at, so that it stays quick in a folder of millions."""
PACKED = "a compressed tar; unpack it to a plain .tar"


class WebDatasetTars(Source):
    """A tar, or a folder tree with tars; a clip's name is its key, behind the tar's own name.

    Clips of our own shards keep the names they were packed with. Folders below with a pack.json
    are passed over: they are what has been packed of these tars.
    """

    kind = "webdataset"
    about = "a .tar of WebDataset, or a folder of them without loose audio files"
    catches = 2
    default_audio = "original"
    tells_word2ph = True

    def __init__(self, path: Path, config: PackConfig) -> None:
        super().__init__(path, config)
        if path.is_file() and path.name.lower().endswith(COMPRESSED):
            raise UserError(f"SOURCE: {path} is compressed; unpack it to a plain .tar")
        if path.is_dir() and not tars_below(path):
            raise UserError(f"SOURCE: {path} holds no .tar; name a folder that does")

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """A tar, or a folder where tars and no audio files are found soon."""
        try:
            if path.is_file():
                return _is_tar(path.name)
            suffixes = set(islice(_suffixes(path), LOOKED_AT))
        except (OSError, ValueError):
            return False
        return ".tar" in suffixes and not suffixes & EXTENSIONS

    def recordings(self) -> Iterator[Recording | Reject]:
        """Every clip, tar by tar in the order of their paths."""
        tars = [self.path] if self.path.is_file() else tars_below(self.path)
        packed = (self.path / FILE_NAME).is_file()
        for tar in tars:
            called = printable(self._within(tar))
            prefix = f"{called[: -len('.tar')]}/" if len(tars) > 1 else ""
            flaw = tar_flaw(tar)
            if flaw:
                yield Reject(called, flaw, "", str(tar))
                continue
            try:
                yield from self._clips(tar, prefix, packed or not prefix)
            except UserError:
                if tar == self.path:
                    raise
                yield Reject(called, PACKED, "", str(tar))

    def members(self, recording: Recording) -> Members:
        """Files beside the audio and the .json: arrays of .npy, the bytes of others."""
        if not recording.handle:
            return {}
        with open_tar(self._root / recording.handle["tar"]) as file:
            listed = [TarMember(*place) for place in recording.handle["members"]]
            return {m.extension: _content(m, read_member(file, m)) for m in listed}

    @property
    def _root(self) -> Path:
        return self.path.parent if self.path.is_file() else self.path

    def _within(self, tar: Path) -> str:
        return tar.relative_to(self._root).as_posix()

    def _clips(self, tar: Path, prefix: str, packed: bool) -> Iterator[Recording | Reject]:
        with open_tar(tar) as file:
            for clip in tar_clips(file):
                if isinstance(clip, TarFlaw):
                    name = f"{prefix}{clip.key}" if clip.key else printable(self._within(tar))
                    yield Reject(name, clip.reason, clip.figure, str(tar))
                else:
                    yield self._recording(tar, file, clip, prefix, packed)

    def _recording(
        self, tar: Path, file: BinaryIO, clip: TarClip, prefix: str, packed: bool
    ) -> Recording | Reject:
        name = f"{prefix}{clip.key.removeprefix('./')}"
        try:
            said = describe(clip, partial(read_member, file))
            if clip.audio is None and said.seconds is None:
                raise UnusableError("neither audio nor a length")
            _require_writable(clip)
        except UnusableError as error:
            return Reject(name, error.reason, error.figure, str(tar))
        return Recording(
            name=said.name if packed and _is_ours(clip, said) else name,
            audio=AudioPlace(tar, clip.audio.offset, clip.audio.size) if clip.audio else None,
            seconds=said.seconds,
            text=said.text,
            speaker=said.speaker,
            language=said.language,
            facts=said.facts,
            figures=said.figures,
            handle=self._handle(tar, clip),
        )

    def _handle(self, tar: Path, clip: TarClip) -> dict[str, Any]:
        members = [[m.extension, m.offset, m.size] for m in clip.carried]
        return {"tar": self._within(tar), "members": members} if members else {}


def _require_writable(clip: TarClip) -> None:
    for member in clip.members:
        if member.extension.startswith("_"):  # WebDataset reads such files, but writes none
            raise UnusableError("a file with an extension that begins with _", member.extension)
        if is_array(member):
            array_column(member)


def tar_flaw(tar: Path) -> str:
    """Why a tar that `tars_below` found cannot be opened, "" if it perhaps can."""
    if tar.name.lower().endswith(COMPRESSED):
        return PACKED
    return "" if is_file(tar) else "a link to a tar that is not there"


def _is_ours(clip: TarClip, said: Description) -> bool:
    return bool(said.name) and key_of(said.name) == clip.key


def _content(member: TarMember, data: bytes) -> Any:
    return read_array(data) if is_array(member) else data


def tars_below(folder: Path) -> list[Path]:
    """All tars below a folder, compressed ones too, but nothing hidden.

    Not those in folders below it that hold a pack.json: they were packed, perhaps of the others.
    """
    found: list[Path] = []
    for at, folders, names in os.walk(folder):
        if SETTINGS in names and at != os.fspath(folder):
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(at, name) for name in names if _is_tar(name)]
    return sorted(found)


def _is_tar(name: str) -> bool:
    return name.lower().endswith((".tar", *COMPRESSED)) and not name.startswith(".")


def _suffixes(folder: Path) -> Iterator[str]:
    """The suffix of every file below a folder, upper levels first; "" for what is no file."""
    waiting = deque([str(folder)])
    while waiting:
        with os.scandir(waiting.popleft()) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder and not entry.name.startswith("."):
                    waiting.append(entry.path)
                yield "" if is_folder else Path(entry.name).suffix.lower()
