"""What a recording is decoded to: itself, or the pieces that it is cut into."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from shards.audio import (
    MOST_SECONDS,
    UNREADABLE,
    Audio,
    AudioPlace,
    blocks,
    estimated,
    joined,
    opened,
    outage,
    promised,
)
from shards.errors import UserError
from shards.pack.keys import piece_name
from shards.pack.recipe import Recipe
from shards.quality.cut import pieces
from shards.quality.tape import Piece
from shards.sources.paths import is_file, is_folder
from shards.sources.source import Members, Recording

ROUNDED_SECONDS = 0.15
"""Corpora round lengths, and MP3 pads: so much more or less is no difference."""
LEAST_RATE, MOST_RATE = 1000, 1_000_000
"""Sample rates, in Hz, that are taken for a recording's."""
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
    """What an exception says, without line breaks and without addresses in memory."""
    return re.sub(r"<_io\.BytesIO object at 0x\w+>", "the file", " ".join(str(error).split()))


def takes(recipe: Recipe, recording: Recording, carried: Members) -> Iterator[Take]:
    """The clips of a recording, one after another; RefusedError where there can be none.

    And, after its pieces, where a recording is cut and ends early. UserError as `reading`.
    """
    place = recording.audio
    unheard = carried and recipe.store == "none" and not recipe.needs_audio
    if place is None or unheard:
        yield Take(recording.name, None, recording.text, {})
        return
    with reading(recipe, place):
        file = opened(place)
    with file:
        sound = _Sound(recipe, recording, place, file)
        limit = math.inf if carried else recipe.config.cut.max_seconds
        if sound.frames > limit * file.samplerate:
            yield from _pieces(recipe, recording, sound)
        else:
            yield _whole(recording, sound)


@contextmanager
def reading(recipe: Recipe, place: AudioPlace) -> Iterator[None]:
    """Around what opens or decodes the file at ``place``: RefusedError where that fails.

    UserError where the corpus as a whole is out of reach: that is no fault of the clip's.
    """
    try:
        yield
    except UNREADABLE as error:
        _stop_at_outage(recipe, place)
        if not is_file(place.path):
            raise RefusedError("the audio file is not there") from error
        raise RefusedError("audio cannot be read", one_line(error)) from error


def _stop_at_outage(recipe: Recipe, place: AudioPlace) -> None:
    source = recipe.source.path
    why = outage(place) if is_file(source) or is_folder(source) else "it is not there"
    if why:
        raise UserError(
            f"SOURCE: {source} cannot be read any more ({why}); "
            "when it is back, the same command goes on"
        )


def span(recording: Recording, file: soundfile.SoundFile) -> tuple[int, int]:
    """Where a recording begins in its file, and how many frames it has there.

    RefusedError where the file ends before it begins, or has a header that cannot be true.
    """
    rate, total = file.samplerate, file.frames
    _refuse_odd(rate, total / rate)
    begin = min(round(min(recording.start, total / rate) * rate), total)
    if begin == total and recording.start > 0:
        raise _early(f"{total / rate:.2f} s, to be read from {recording.start:.2f} s on")
    left = total - begin
    if recording.seconds is None:
        return begin, left
    frames = round(min(recording.seconds, left / rate) * rate)
    whole = begin == 0 and left - frames <= ROUNDED_SECONDS * rate
    return begin, left if whole else min(frames, left)


def _refuse_odd(rate: int, seconds: float) -> None:
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise RefusedError("a sample rate that no recording has", f"{rate} Hz")
    if seconds > MOST_SECONDS:
        raise RefusedError("a length that no recording has", f"{seconds / 3600:.4g} h")


def _early(figure: str) -> RefusedError:
    return RefusedError("the audio ends early", figure)


class _Sound:
    """A recording's part of an open file, decoded once."""

    def __init__(
        self, recipe: Recipe, recording: Recording, place: AudioPlace, file: soundfile.SoundFile
    ) -> None:
        self.file, self.rate = file, file.samplerate
        self.begin, self.frames = span(recording, file)
        self._recipe, self._recording, self._place = recipe, recording, place
        self._decoded = 0

    def blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """As `shards.audio.blocks`; RefusedError and UserError as `reading`."""
        with reading(self._recipe, self._place):
            for block in blocks(self.file, self.begin, self.frames):
                self._decoded += len(block)
                yield block

    def refuse_early_end(self) -> None:
        """RefusedError if less was decoded than the corpus or else the file's header tells."""
        told, decoded = self._recording.seconds, self._decoded / self.rate
        wanted = (promised(self.file) - self.begin) / self.rate if told is None else told
        if wanted - decoded <= ROUNDED_SECONDS:
            return
        _stop_at_outage(self._recipe, self._place)
        with reading(self._recipe, self._place):
            if told is None and estimated(self.file, self._place):
                return
        raise _early(f"decoded {decoded:.2f} s of {wanted:.2f} s")


def _whole(recording: Recording, sound: _Sound) -> Take:
    samples = joined(sound.blocks())
    sound.refuse_early_end()
    if len(samples) == 0:
        raise RefusedError("no sound at all", f"{sound.file.frames} samples")
    whole = sound.begin == 0 and len(samples) == sound.file.frames
    extension = _EXTENSIONS.get(sound.file.format) if whole else None
    return Take(recording.name, Audio(samples, sound.rate), recording.text, {}, extension)


def _pieces(recipe: Recipe, recording: Recording, sound: _Sound) -> Iterator[Take]:
    seconds = f"{sound.frames / sound.rate:.1f} s"
    if recording.text and recipe.needs_text:
        raise RefusedError("longer than cut.max_seconds with one text", seconds)
    # Nobody knows which part of the text belongs to which piece.
    text = {"recording_text": recording.text} if recording.text else {}
    piece = None
    for piece in pieces(sound.blocks(), sound.rate, recipe.config.cut):
        yield _piece(recording, piece, sound.rate, text)
    sound.refuse_early_end()
    if piece is None:
        raise RefusedError("a long recording without speech", seconds)


def _piece(recording: Recording, piece: Piece, rate: int, text: Mapping[str, str]) -> Take:
    start = recording.start + piece.start / rate
    forced = {"cut": "without a pause"} if piece.forced else {}
    facts = {"recording": recording.name, "start": round(start, 4), **forced, **text}
    return Take(piece_name(recording.name, start), Audio(piece.samples, rate), "", facts)
