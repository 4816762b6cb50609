"""LJSpeech's layout: metadata.csv with ``id|text|normalised text``, audio in wavs/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from shards.audio import EXTENSIONS, AudioPlace
from shards.errors import UserError
from shards.sources.paths import is_audio, is_file, is_folder, printable, without_wav
from shards.sources.source import Recording, Reject, Source, read_lines

if TYPE_CHECKING:
    from shards.pack.config import PackConfig

METADATA, AUDIO = "metadata.csv", "wavs"
_SUFFIXES = (".wav", *sorted(EXTENSIONS - {".wav"}))


class LjSpeech(Source):
    """One speaker, called as the folder is.

    The text is the third field where there is one, for readers wrote out in it what is spoken
    ("in fourteen fifty-five", "Doctor"), which no spelling of numbers gets right each time. The
    second field is then kept as the fact ``written``. An id may have a suffix or a folder in
    front; quotation marks mean themselves.
    """

    kind = "ljspeech"
    about = "an LJSpeech folder: metadata.csv (id|text|normalised text) and wavs/"

    def __init__(self, path: Path, config: PackConfig) -> None:
        super().__init__(path, config)
        if not is_file(path / METADATA):
            raise UserError(f"SOURCE: {path} has no {METADATA}; name a folder in LJSpeech's layout")

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """A folder with metadata.csv and wavs/."""
        return is_file(path / METADATA) and is_folder(path / AUDIO)

    def recordings(self) -> Iterator[Recording | Reject]:
        """Every line of metadata.csv; whether its audio is there, decoding finds out."""
        speaker = printable(_folder_name(self.path))
        for number, line in enumerate(read_lines(self.path / METADATA), 1):
            if line.strip():
                yield self._recording(number, line, speaker)

    def _recording(self, number: int, line: str, speaker: str) -> Recording | Reject:
        name, *texts = (part.strip() for part in line.split("|"))
        if len(texts) not in {1, 2} or not name or "\0" in name:
            reason, file = "not id|text or id|text|normalised text", str(self.path / METADATA)
            return Reject(f"line {number}", reason, line[:80], file)
        spoken = texts[-1] or texts[0]
        return Recording(
            name=without_wav(name),
            audio=AudioPlace(self._audio(name)),
            text=spoken,
            speaker=speaker,
            facts={"written": texts[0]} if texts[0] != spoken else {},
        )

    def _audio(self, name: str) -> Path:
        folder = self.path / AUDIO
        if is_audio(name):
            return folder / name
        there = (folder / (name + suffix) for suffix in _SUFFIXES)
        return next(filter(is_file, there), folder / f"{name}.wav")


def _folder_name(path: Path) -> str:
    return path.name if path.name not in {"", ".."} else path.resolve().name
