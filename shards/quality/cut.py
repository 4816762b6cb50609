"""Cutting long recordings at their pauses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from shards.quality.tape import Piece, Tape
from shards.quality.voice import Flags, Powers, Samples, frame_length, listen, runs, smoothed
from shards.section import Section

Frames = npt.NDArray[np.int64]

LONG_PAUSE_SECONDS = 2.0
"""A pause that always ends a piece."""
_SHORT_WEIGHT, _REST_WEIGHT = 0.01, 0.1


class CutConfig(Section):
    """``cut``: what becomes of recordings longer than ``max_seconds``."""

    max_seconds: float = Field(default=54.0, gt=0, description="the longest a clip may be")
    min_seconds: float = Field(default=1.0, gt=0, description="the shortest piece that is cut")
    min_pause: float = Field(default=0.25, gt=0, description="seconds of silence that are a pause")
    keep_pause: float = Field(
        default=0.2, ge=0, description="seconds of silence kept at each end of a piece"
    )

    @model_validator(mode="after")
    def _room(self) -> CutConfig:
        if self.max_seconds < 2 * self.min_seconds:
            raise ValueError("max_seconds must be at least twice min_seconds")
        return self


@dataclass(frozen=True)
class _Limits:
    """`CutConfig` in frames."""

    longest: int
    shortest: int
    pause: int
    keep: int
    long_pause: int

    @classmethod
    def of(cls, config: CutConfig, sample_rate: int) -> _Limits:
        per_second = sample_rate / frame_length(sample_rate)
        pause = max(1, round(config.min_pause * per_second))
        longest = max(1, int(config.max_seconds * per_second))
        # More would leave too little room for the sound of a forced piece.
        keep = min(round(config.keep_pause * per_second), longest // 4)
        return cls(
            longest=longest,
            shortest=max(1, round(config.min_seconds * per_second)),
            pause=pause,
            keep=keep,
            long_pause=max(round(LONG_PAUSE_SECONDS * per_second), 2 * keep, pause),
        )

    @property
    def reach(self) -> int:
        """How far beyond its first sound a piece's end can depend on what is heard."""
        return self.longest + self.long_pause + self.shortest


@dataclass(frozen=True)
class _Cut:
    start: int
    end: int
    forced: bool


def pieces(blocks: Iterable[Samples], sample_rate: int, config: CutConfig) -> Iterator[Piece]:
    """Cut one mono recording, given as consecutive blocks of any lengths, at its pauses.

    A pause is a silence (see `voice`) of at least ``min_pause``. A piece runs

    - to the next pause of 2 s or more, if that is within ``max_seconds``;
    - else to the best of the pauses within ``max_seconds``: the longer the pause and, by its fourth
      root, the longer the piece, the better; a pause that makes a piece, or leaves a rest, shorter
      than ``min_seconds`` is taken only where there is no other;
    - else, where there is no pause at all, to the quietest quarter of a second (``min_pause``) in
      the second half of ``max_seconds``: this piece and the next one are ``forced``.

    Of the silence around a piece ``keep_pause`` seconds are kept, half of a pause that is too short
    for two such ends, and more where the piece would be shorter than ``min_seconds``; other silence
    is left out, and all sound is in some piece. Pieces share no sample and come in order; none is
    longer than ``max_seconds``, and shorter than ``min_seconds`` only one that has neither sound
    nor silence around it to be longer. A recording without sound has no pieces.

    The result does not depend on how the blocks are cut. Twice ``max_seconds`` and about a minute
    more are held in memory.
    """
    limits = _Limits.of(config, sample_rate)
    tape = Tape(frame_length(sample_rate))
    for stretch in listen(blocks, sample_rate):
        tape.append(stretch)
        yield from _taken(tape, limits, ended=False)
    yield from _taken(tape, limits, ended=True)


def _taken(tape: Tape, limits: _Limits, ended: bool) -> Iterator[Piece]:
    while tape.sounds.any():
        cut = _next_cut(tape.sounds, tape.powers, limits, ended)
        if cut is None:
            return
        yield tape.take(cut.start, cut.end, cut.forced)
    tape.keep_last(max(limits.keep, limits.shortest))


def _next_cut(sounds: Flags, powers: Powers, limits: _Limits, ended: bool) -> _Cut | None:
    """The next piece of frames that sound somewhere; None if its end is not decided yet."""
    first = int(sounds.argmax())
    known = first + limits.reach
    if len(sounds) < known and not ended:
        return None
    pauses = _pauses(sounds[:known], limits, is_end=ended and len(sounds) <= known)
    start = max(0, first - limits.keep)
    best = _best_pause(pauses, start, limits)
    if best is None:
        return _Cut(start, _quietest(powers, pauses, start, limits), forced=True)
    return _in_pause(start, int(pauses.begins[best]), int(pauses.rooms[best]), limits)


@dataclass(frozen=True, eq=False)
class _Pauses:
    """The pauses after the first sound, up to the first long one or the recording's end.

    Frames at which each begins, the next sound begins, and to which the piece before may last.
    Without ``closed`` the last pause is one of many: no end was near enough to be seen.
    """

    begins: Frames
    ends: Frames
    rooms: Frames
    closed: bool


def _pauses(sounds: Flags, limits: _Limits, is_end: bool) -> _Pauses:
    """The pauses of ``sounds``, which begin with silence or sound; ``is_end``: and then end."""
    silences = runs(~sounds)
    begins, ends = silences[silences[:, 0] > sounds.argmax()].T
    if is_end and sounds[-1]:
        begins, ends = np.append(begins, len(sounds)), np.append(ends, len(sounds))
    lasts = ends == len(sounds)
    closing = (ends - begins >= limits.long_pause) | (lasts & is_end)
    count = int(closing.argmax()) + 1 if closing.any() else len(begins)
    rooms = np.maximum((begins + ends) // 2, ends - limits.keep)
    rooms[lasts] = ends[lasts]
    # A shorter silence that is the last to be seen lies too far off to be chosen.
    pauses = np.flatnonzero(closing[:count] | (ends - begins >= limits.pause)[:count])
    return _Pauses(begins[pauses], ends[pauses], rooms[pauses], bool(closing.any()))


def _best_pause(pauses: _Pauses, start: int, limits: _Limits) -> int | None:
    lengths = pauses.begins - start
    fits = lengths <= limits.longest
    if not fits.any():
        return None
    if pauses.closed and fits[-1]:
        return len(fits) - 1
    gaps = (pauses.ends - pauses.begins).astype(np.float64)
    # The root leaves lengths as various as the pauses, and takes the last of equal pauses.
    worth = gaps * lengths**0.25
    worth[lengths < limits.shortest] *= _SHORT_WEIGHT
    if pauses.closed:
        worth[pauses.begins[-1] - pauses.ends < limits.shortest] *= _REST_WEIGHT
    return int(np.where(fits, worth, 0).argmax())


def _in_pause(start: int, begin: int, room: int, limits: _Limits) -> _Cut:
    end = min(begin + limits.keep, room, start + limits.longest)
    missing = max(0, limits.shortest - (end - start))
    end = min(end + missing - min(start, missing // 2), max(end, room))
    return _Cut(max(0, min(start, end - limits.shortest)), end, forced=False)


def _quietest(powers: Powers, pauses: _Pauses, start: int, limits: _Limits) -> int:
    first, last = start + (limits.longest + 1) // 2, start + limits.longest
    if pauses.closed:
        last = max(first, min(last, int(pauses.begins[-1]) - limits.shortest))
    loudness = smoothed(powers[: last + limits.pause], limits.pause)
    return first + int(loudness[first : last + 1].argmin())
