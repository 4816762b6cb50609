"""NeMo's manifests: JSON lines with ``audio_filepath``, ``duration``, ``text`` and ``offset``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from shards.audio import AudioPlace
from shards.errors import UserError
from shards.json_facts import UnusableError, described, number
from shards.sources.json_lines import Line, first_object, json_lines
from shards.sources.paths import is_file, without_wav
from shards.sources.source import Recording, Reject, Source

if TYPE_CHECKING:
    from shards.pack.config import PackConfig


class NemoManifest(Source):
    """A manifest; paths in it are absolute or relative to its folder."""

    kind = "nemo"
    about = "a NeMo manifest, .json or .jsonl (or .gz), each line with audio_filepath"

    def __init__(self, path: Path, config: PackConfig) -> None:
        super().__init__(path, config)
        if not is_file(path):
            raise UserError(f"SOURCE: {path} is a folder; name the NeMo manifest itself")

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """A JSON-lines file whose first line has ``audio_filepath``."""
        return "audio_filepath" in first_object(path)

    def recordings(self) -> Iterator[Recording | Reject]:
        """Every line, in order."""
        for line in json_lines(self.path):
            if isinstance(line, Reject):
                yield line
                continue
            try:
                yield self._recording(line.fields)
            except UnusableError as error:
                figure = f"line {line.number} {error.figure}".rstrip()
                yield Reject(_called(line), error.reason, figure, str(self.path))

    def _recording(self, fields: dict[str, Any]) -> Recording:
        written = fields.get("audio_filepath")
        if not isinstance(written, str) or not written or "\0" in written:
            raise UnusableError("audio_filepath is not a path", "" if written is None else written)
        offset = number(fields, "offset")
        if offset is not None and offset < 0:
            raise UnusableError("offset is below zero", offset)
        said = described(fields, used={"audio_filepath", "offset", "duration"})
        return Recording(
            name=self._name(written, offset),
            audio=AudioPlace(self.path.parent / written),
            start=offset or 0.0,
            seconds=said.seconds,
            text=said.text,
            speaker=said.speaker,
            language=said.language,
            facts=said.facts,
            figures=said.figures,
        )

    def _name(self, written: str, offset: float | None) -> str:
        path, folder = PurePosixPath(written), self.path.parent.absolute().as_posix()
        if path.is_relative_to(folder):
            path = path.relative_to(folder)
        name = without_wav(path.as_posix())
        return name if offset is None else f"{name}_{round(offset * 1000):08d}"


def _called(line: Line) -> str:
    path = line.fields.get("audio_filepath")
    return path if isinstance(path, str) and path else f"line {line.number}"
