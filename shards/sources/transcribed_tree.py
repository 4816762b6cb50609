"""Trees of audio with texts: VCTK, LibriTTS, LibriSpeech and whatever is laid out like them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

from shards.errors import UserError
from shards.sources.named_lines import BOM
from shards.sources.paths import is_file, is_folder, parted, printable
from shards.sources.source import Recording, Reject, Source
from shards.sources.tree import Level, glance, walk

if TYPE_CHECKING:
    from shards.pack.config import PackConfig

WRITTEN = ".original.txt"
TEXTS = (".normalized.txt", ".txt", WRITTEN)
"""Endings of a text beside its audio, the one closest to what is spoken first."""
TRANSCRIPT = ".trans.txt"
GLANCE, GLANCE_PER_FOLDER = 20_000, 10
_MICROPHONE = re.compile(r"_mic\d+$")


class TranscribedTree(Source):
    """Audio with a text of the same stem beside it, or where these corpora have it.

    - LibriTTS: X.normalized.txt is the text, for it is closest to what is spoken; X.original.txt
      is kept as the fact ``written``.
    - LibriSpeech: SPEAKER-CHAPTER.trans.txt has a line ``ID text`` for each file of its folder.
    - VCTK: txt/SPEAKER/X.txt is the text of wav48*/SPEAKER/X_mic1.flac. Each microphone's file is
      a clip.

    The speaker is SPEAKER in wav48*/SPEAKER/... and in SPEAKER/CHAPTER/SPEAKER-CHAPTER-... (with
    ``-`` or ``_``), else the first folder level. Audio without a text is listed with an empty one.
    """

    kind = "text_tree"
    about = "a folder tree of audio with its texts beside it, such as VCTK, LibriTTS, LibriSpeech"
    catches = 2

    def __init__(self, path: Path, config: PackConfig) -> None:
        super().__init__(path, config)
        if not is_folder(path):
            raise UserError(f"SOURCE: {path} is no folder; name the folder that holds the audio")

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """A folder in which one of the first audio files has a text."""
        return any(
            _has_text(path, file)
            for _, files in groupby(glance(path, GLANCE), key=lambda file: file.parent)
            for file in islice(files, GLANCE_PER_FOLDER)
        )

    def recordings(self) -> Iterator[Recording | Reject]:
        """Every audio file with its text, a folder's own before those of its sub-folders."""
        for level in walk(self.path):
            yield from level.rejects
            texts = _Texts(self.path, level)
            for file, found in zip(level.audio, level.recordings(self.path), strict=True):
                yield found if isinstance(found, Reject) else texts.added(found, file)


@dataclass(frozen=True)
class _Texts:
    """The texts of a folder's audio files, read one at a time."""

    root: Path
    level: Level

    def added(self, recording: Recording, file: str) -> Recording | Reject:
        """The recording of ``file`` with its text; a reject where that cannot be read."""
        stem, _ = parted(file)
        try:
            text = _decoded(self._text(stem))
            written = _decoded(self._read(stem + WRITTEN)) if stem + WRITTEN in self._names else ""
        except UnicodeDecodeError:
            return self._refused(recording, file, "text is not UTF-8")
        except OSError as error:
            return self._refused(recording, file, "text cannot be read", error.strerror or "")
        facts = {"written": written} if written not in {"", text} else {}
        return replace(recording, text=text, speaker=self._speaker(stem), facts=facts)

    def _refused(self, recording: Recording, file: str, reason: str, figure: str = "") -> Reject:
        return Reject(recording.name, reason, figure, printable(str(self._path(file))))

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.level.others)

    @cached_property
    def _vctk(self) -> _Vctk | None:
        return _vctk(self.root, self.level.inside)

    @cached_property
    def _transcript(self) -> dict[bytes, bytes]:
        """The lines of the folder's transcripts by their first word, not decoded yet."""
        lines: dict[bytes, bytes] = {}
        for name in self.level.others:
            if name.endswith(TRANSCRIPT):
                for line in self._read(name).removeprefix(BOM).split(b"\n"):
                    word, *text = line.split(maxsplit=1) or [b""]
                    lines[word] = b"".join(text)
        return lines

    def _text(self, stem: str) -> bytes:
        for ending in TEXTS:
            if stem + ending in self._names:
                return self._read(stem + ending)
        line = self._transcript.get(os.fsencode(stem))
        if line is not None or self._vctk is None:
            return line or b""
        try:
            return self._vctk.text(stem).read_bytes()
        except FileNotFoundError:
            return b""

    def _read(self, name: str) -> bytes:
        return self._path(name).read_bytes()

    def _path(self, name: str) -> Path:
        return self.root / self.level.at(name)

    def _speaker(self, stem: str) -> str:
        if self._vctk:
            return self._vctk.speaker
        parts = self.level.inside.split("/")
        if any(stem.startswith(mark.join([*parts[-2:], ""])) for mark in "-_"):
            return parts[-2:][0]
        return parts[0]


@dataclass(frozen=True)
class _Vctk:
    """What VCTK's layout says of a folder below wav48*."""

    texts: Path
    speaker: str

    def text(self, stem: str) -> Path:
        """The file with the text of both microphones."""
        return self.texts / f"{_MICROPHONE.sub('', stem)}.txt"


def _vctk(root: Path, inside: str) -> _Vctk | None:
    if "wav48" not in inside:
        return None
    parts = inside.split("/")
    for place, part in enumerate(parts):
        texts = root.joinpath(*parts[:place], "txt")
        if part.startswith("wav48") and is_folder(texts):
            below = parts[place + 1 :]
            return _Vctk(texts.joinpath(*below), below[0] if below else "")
    return None


def _has_text(root: Path, audio: Path) -> bool:
    stem, _ = parted(audio.name)
    places = [audio.with_name(stem + ending) for ending in TEXTS]
    places.append(audio.with_name(stem.rpartition("-")[0] + TRANSCRIPT))
    vctk = _vctk(root, audio.parent.relative_to(root).as_posix())
    if vctk:
        places.append(vctk.text(stem))
    return any(map(is_file, places))


def _decoded(text: bytes) -> str:
    return text.decode("utf-8-sig").strip()
