"""GPT-SoVITS's annotation format: ``path|speaker|language|text``, one utterance a line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from shards.audio import AudioPlace
from shards.errors import UserError
from shards.sources.paths import is_file, without_wav
from shards.sources.source import Recording, Reject, Source, read_lines

if TYPE_CHECKING:
    from shards.pack.config import PackConfig

SUFFIX = ".list"


class AnnotationList(Source):
    """A ``.list`` file; paths in it are absolute or relative to its folder.

    A clip's name is its path as written without ``.wav`` and leading slashes; other suffixes
    stay, so that a.wav and a.flac are two. As upstream, a text has no ``|``. The language AUTO,
    which upstream's transcription writes, is none.
    """

    kind = "list"
    about = "a .list file (path|speaker|language|text), or a folder with exactly one"
    default_audio = "none"
    default_features = ("phonemes.espeak", "units.mfcc")

    def __init__(self, path: Path, config: PackConfig) -> None:
        super().__init__(path, config)
        lists = _lists(path)
        if len(lists) != 1:
            raise UserError(f"SOURCE: {path} is not, or does not hold, one .list file; name that")
        self._list = lists[0]

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """A ``.list`` file, or a folder with exactly one."""
        return len(_lists(path)) == 1

    def recordings(self) -> Iterator[Recording | Reject]:
        """Every line; whether its audio is there, decoding finds out."""
        for number, line in enumerate(read_lines(self._list), 1):
            if line.strip():
                yield self._recording(number, line)

    def _recording(self, number: int, line: str) -> Recording | Reject:
        fields = [part.strip() for part in line.split("|")]
        if len(fields) != 4 or not fields[0] or "\0" in fields[0]:
            reason = "not path|speaker|language|text"
            return Reject(f"line {number}", reason, line[:80], str(self._list))
        path, speaker, language, text = fields
        return Recording(
            name=without_wav(path.lstrip("/") or path),
            audio=AudioPlace(self._list.parent / path),
            text=text,
            speaker=speaker,
            language="" if language.upper() == "AUTO" else language,
        )


def _lists(path: Path) -> list[Path]:
    """The list that ``path`` is, or the first two that it holds."""
    if is_file(path):
        return [path] if path.suffix == SUFFIX else []
    with suppress(OSError, ValueError), os.scandir(path) as entries:
        return [Path(entry.path) for entry in islice(filter(_is_list, entries), 2)]
    return []


def _is_list(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(SUFFIX) and not entry.name.startswith(".") and entry.is_file()
