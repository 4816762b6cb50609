"""What a recording is decoded to: itself, or the pieces that it is cut into."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from shards.audio import UNREADABLE, Audio, mono, opened
from shards.pack.keys import piece_name
from shards.pack.recipe import Recipe
from shards.quality.cut import pieces
from shards.quality.tape import Piece
from shards.sources.source import Members, Recording

BLOCK_SECONDS = 60
ROUNDED_SECONDS = 0.15
_EXTENSIONS = {"WAV": "wav", "WAVEX": "wav", "FLAC": "flac", "MP3": "mp3", "OGG": "ogg"}
"""libsndfile's formats that the stream can decode, by the extension they get in a shard."""


class RefusedError(Exception):
    """Why a clip does not get in, and the figure that decided."""

    def __init__(self, reason: str, figure: str = "") -> None:
        super().__init__(reason)
        self.reason, self.figure = reason, figure


@dataclass(frozen=True)
class Take:
    """A stretch of a recording that becomes one clip.

    ``extension`` is that of its file, where the take is the whole of it, else None.
    """

    name: str
    audio: Audio | None
    text: str
    facts: Mapping[str, Any]
    extension: str | None = None


def one_line(error: Exception) -> str:
    """What an exception says, without line breaks."""
    return " ".join(str(error).split())


def takes(recipe: Recipe, recording: Recording, carried: Members) -> Iterator[Take]:
    """The clips of a recording, one after another; RefusedError where there can be none."""
    place = recording.audio
    unheard = carried and recipe.store == "none" and not recipe.needs_audio
    if place is None or unheard:
        yield Take(recording.name, None, recording.text, {})
        return
    try:
        with opened(place) as file:
            yield from _heard(recipe, recording, file, bool(carried))
    except UNREADABLE as error:
        raise RefusedError("audio cannot be read", one_line(error)) from error


def _heard(
    recipe: Recipe, recording: Recording, file: soundfile.SoundFile, carries: bool
) -> Iterator[Take]:
    limit = math.inf if carries else recipe.config.cut.max_seconds
    begin, frames = _span(recording, file)
    file.seek(begin)
    if frames > limit * file.samplerate:
        yield from _pieces(recipe, recording, file, frames)
        return
    samples = mono(file.read(frames, dtype="float32", always_2d=True))
    if len(samples) == 0:
        raise RefusedError("no sound at all", f"{file.frames} samples")
    whole = begin == 0 and len(samples) == file.frames
    extension = _EXTENSIONS.get(file.format) if whole else None
    audio = Audio(samples, file.samplerate)
    yield Take(recording.name, audio, recording.text, {}, extension)


def _span(recording: Recording, file: soundfile.SoundFile) -> tuple[int, int]:
    begin = min(round(recording.start * file.samplerate), file.frames)
    left = file.frames - begin
    if recording.seconds is None:
        return begin, left
    frames = round(recording.seconds * file.samplerate)
    # Corpora round lengths, and MP3 pads: what is about the whole file is the whole file.
    whole = begin == 0 and abs(left - frames) <= ROUNDED_SECONDS * file.samplerate
    return begin, left if whole else min(left, frames)


def _pieces(
    recipe: Recipe, recording: Recording, file: soundfile.SoundFile, frames: int
) -> Iterator[Take]:
    config, rate = recipe.config.cut, file.samplerate
    if recording.text and recipe.needs_text:
        raise RefusedError("longer than cut.max_seconds with one text", f"{frames / rate:.1f} s")
    found = pieces(_blocks(file, frames), rate, config)
    first = next(found, None)
    if first is None:
        raise RefusedError("a long recording without speech", f"{frames / rate:.1f} s")
    # Nobody knows which part of the text belongs to which piece.
    text = {"recording_text": recording.text} if recording.text else {}
    for piece in chain([first], found):
        yield _piece(recording, piece, rate, text)


def _piece(recording: Recording, piece: Piece, rate: int, text: Mapping[str, str]) -> Take:
    start = recording.start + piece.start / rate
    forced = {"cut": "without a pause"} if piece.forced else {}
    facts = {"recording": recording.name, "start": round(start, 4), **forced, **text}
    return Take(piece_name(recording.name, start), Audio(piece.samples, rate), "", facts)


def _blocks(file: soundfile.SoundFile, frames: int) -> Iterator[npt.NDArray[np.float32]]:
    size = BLOCK_SECONDS * file.samplerate
    for start in range(0, frames, size):
        block = file.read(min(size, frames - start), dtype="float32", always_2d=True)
        if len(block) == 0:
            return
        yield mono(block)
