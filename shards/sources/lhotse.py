"""Lhotse's cuts: JSON lines, each a stretch of a recording with its supervisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shards.audio import AudioPlace
from shards.errors import UserError
from shards.json_facts import UnusableError, facts_and_figures, length, number, string
from shards.sources.json_lines import first_object, json_lines
from shards.sources.paths import is_file
from shards.sources.source import Recording, Reject, Source

if TYPE_CHECKING:
    from shards.pack.config import PackConfig

CUTS = ("MonoCut", "MultiCut", "Cut")
"""Kinds of cut that are one stretch of one recording; MonoCut was once called Cut."""
HARMLESS = ("Resample",)
"""Transforms of a recording that leave its times and its sound as they are."""
_SHORTEST = 1e-6
_USED = ("id", "recording_id", "start", "duration", "channel", "type", "custom")


@dataclass(frozen=True)
class _Cut:
    """What all clips of a cut have in common; ``start`` in seconds on the recording."""

    name: str
    audio: AudioPlace
    start: float
    seconds: float
    recording: str
    custom: Mapping[str, Any]


class LhotseCuts(Source):
    """A manifest of cuts; a cut with several supervisions is as many recordings.

    Channels are mixed, so a cut must have all channels of its file. Paths are relative to the
    working directory, as Lhotse has it, or else to the manifest's folder.
    """

    kind = "lhotse"
    about = "Lhotse cuts, .jsonl or .jsonl.gz"

    def __init__(self, path: Path, config: PackConfig) -> None:
        super().__init__(path, config)
        if not is_file(path):
            raise UserError(f"SOURCE: {path} is a folder; name the manifest of cuts itself")

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """A JSON-lines file whose first line is a cut."""
        first = first_object(path)
        kind = first.get("type")
        named = isinstance(kind, str) and kind.endswith("Cut")
        return named or first.keys() >= {"recording", "start", "duration"}

    def recordings(self) -> Iterator[Recording | Reject]:
        """Every cut, in order."""
        for line in json_lines(self.path):
            if isinstance(line, Reject):
                yield line
                continue
            try:
                yield from self._clips(line.fields)
            except UnusableError as error:
                name = line.fields.get("id")
                called = name if isinstance(name, str) and name else f"line {line.number}"
                yield Reject(called, error.reason, error.figure, str(self.path))

    def _clips(self, fields: dict[str, Any]) -> Iterator[Recording | Reject]:
        cut = self._cut(fields)
        supervisions = fields.get("supervisions") or []
        if not isinstance(supervisions, list):
            raise UnusableError("supervisions is not a list", supervisions)
        if len(supervisions) <= 1:
            said = _object(supervisions[0], "supervision") if supervisions else {}
            yield _recording(cut, cut.name, cut.start, cut.seconds, said)
            return
        for place, said in enumerate(supervisions):
            try:
                yield _supervised(cut, _object(said, "supervision"))
            except UnusableError as error:
                name = f"{cut.name}: supervision {place + 1}"
                yield Reject(name, error.reason, error.figure, str(self.path))

    def _cut(self, fields: dict[str, Any]) -> _Cut:
        kind = fields.get("type", "MonoCut")
        if kind not in CUTS:
            raise UnusableError("a cut of another kind than MonoCut and MultiCut", kind)
        if "recording" not in fields:
            raise UnusableError("a cut without a recording")
        recording = _object(fields["recording"], "recording")
        return _Cut(
            name=_required_string(fields, "id"),
            audio=AudioPlace(self._path(_source(recording, fields.get("channel")))),
            start=_on_recording(number(fields, "start") or 0.0),
            seconds=_required_length(fields),
            recording=string(recording, "id"),
            custom=_object(fields.get("custom") or {}, "custom"),
        )

    def _path(self, source: dict[str, Any]) -> Path:
        if source.get("type") != "file":
            raise UnusableError("audio that is not in a file", source.get("type", ""))
        written = source.get("source")
        if not isinstance(written, str) or not written or "\0" in written:
            raise UnusableError("the recording's source is not a path", written)
        here = Path(written).absolute()
        return here if is_file(here) else self.path.parent / written


def _source(recording: dict[str, Any], channel: Any) -> dict[str, Any]:
    """The one source that has the cut's channels and no others."""
    transforms = recording.get("transforms") or []
    for transform in transforms if isinstance(transforms, list) else [transforms]:
        if _object(transform, "transform").get("name") not in HARMLESS:
            raise UnusableError("a recording that Lhotse would transform", transform)
    listed = recording.get("sources")
    if not isinstance(listed, list) or not listed:
        raise UnusableError("a recording without sources")
    sources = [_object(source, "source") for source in listed]
    if channel is None and len(sources) == 1:
        return sources[0]
    wanted = channel if isinstance(channel, list) else [channel]
    for source in sources:
        if source.get("channels", wanted) == wanted:
            return source
    raise UnusableError("a cut of some of a file's channels, or of several files", channel)


def _supervised(cut: _Cut, said: dict[str, Any]) -> Recording:
    name, seconds = _required_string(said, "id"), _required_length(said)
    start = _on_recording(cut.start + (number(said, "start") or 0.0))
    return _recording(cut, name, start, seconds, said)


def _recording(
    cut: _Cut, name: str, start: float, seconds: float, said: dict[str, Any]
) -> Recording:
    custom = _object(said.get("custom") or {}, "custom")
    further = {name: value for name, value in said.items() if name not in _USED}
    fields = {"recording": cut.recording, **cut.custom, **further, **custom}
    facts, figures = facts_and_figures(fields)
    return Recording(
        name=name,
        audio=cut.audio,
        start=start,
        seconds=seconds,
        text=string(said, "text"),
        speaker=string(said, "speaker"),
        language=string(said, "language"),
        facts=facts,
        figures=figures,
    )


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnusableError(f"{name} is not an object", value)
    return value


def _required_string(fields: dict[str, Any], name: str) -> str:
    found = string(fields, name)
    if not found:
        raise UnusableError(f"no {name}")
    return found


def _required_length(fields: dict[str, Any]) -> float:
    seconds = length(fields, "duration")
    if seconds is None:
        raise UnusableError("no duration")
    return seconds


def _on_recording(start: float) -> float:
    # Lhotse adds up times, and rounding leaves some of them a hair below zero.
    if start < -_SHORTEST:
        raise UnusableError("a start before the recording's", start)
    return max(0.0, round(start, 8))
