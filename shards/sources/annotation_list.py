"""GPT-SoVITS's annotation format: ``path|speaker|language|text``, one utterance a line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import soundfile

from shards.audio import MIN_SECONDS, measure
from shards.sources.source import Arrays, Reject, Utterance, read_lines


@dataclass(frozen=True)
class AnnotationList:
    """A ``.list`` file; paths in it are absolute or relative to its folder."""

    path: Path
    default_features: tuple[str, ...] = ("phonemes.espeak", "units.mfcc")

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """A ``.list`` file, or a folder with exactly one."""
        return (path.is_file() and path.suffix == ".list") or len(_lists(path)) == 1

    @classmethod
    def at(cls, path: Path) -> AnnotationList:
        """The list at ``path`` or in the folder ``path``."""
        return cls(path if path.is_file() else _lists(path)[0])

    def utterances(self) -> Iterator[Utterance | Reject]:
        """Every line, with the duration that the audio's header states."""
        seen: set[str] = set()
        for number, line in enumerate(read_lines(self.path), 1):
            if not line.strip():
                continue
            found = self._utterance(number, line)
            if isinstance(found, Utterance) and found.name in seen:
                found = Reject(found.name, "listed twice", f"line {number}")
            seen.add(found.name)
            yield found

    def arrays(self, utterance: Utterance) -> Arrays:
        """Nothing: all members are computed from audio and text."""
        return {}

    def _utterance(self, number: int, line: str) -> Utterance | Reject:
        fields = line.split("|")
        if len(fields) != 4:
            return Reject(f"line {number}", "not path|speaker|language|text", line[:80])
        name, speaker, language, text = (field.strip() for field in fields)
        audio = self.path.parent / name
        try:
            seconds = measure(audio)
        except (soundfile.LibsndfileError, TypeError, ZeroDivisionError) as error:
            return Reject(name, "audio cannot be read", str(error))  # TypeError: headerless .raw
        if seconds < MIN_SECONDS:
            return Reject(name, f"shorter than {MIN_SECONDS} s", f"{seconds:.3f}")
        if not text:
            return Reject(name, "no text")
        stem = name.rsplit(".", 1)[0].lstrip("/")
        return Utterance(stem, seconds, speaker, language, text, audio)


def _lists(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.list")) if folder.is_dir() else []
