"""The part of a recording that is not cut yet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shards.quality.voice import Flags, Powers, Samples, Stretch


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of a recording: float32 [samples] from the sample ``start`` on.

    ``forced``: an end lies where no pause was found.
    """

    start: int
    samples: Samples
    forced: bool


class Tape:
    """Holds a recording from its first free frame on: what lies before is in a piece or left out.

    ``powers`` and ``sounds`` [frames] are those of the free frames.
    """

    def __init__(self, frame_length: int) -> None:
        self.powers: Powers = np.empty(0, np.float32)
        self.sounds: Flags = np.empty(0, np.bool_)
        self._frame_length = frame_length
        self._forced = False
        self._free = 0
        self._held: list[tuple[int, Samples]] = []
        self._end = 0

    def append(self, stretch: Stretch) -> None:
        """Add what comes next."""
        self.powers = np.concatenate((self.powers, stretch.powers))
        self.sounds = np.concatenate((self.sounds, stretch.sounds))
        self._held.append((self._end, stretch.samples))
        self._end += len(stretch.samples)

    def take(self, start: int, end: int, forced: bool) -> Piece:
        """The frames from ``start`` to ``end``; those from ``end`` on stay free.

        ``forced``: ``end`` lies where no pause was found.
        """
        first, last = (
            min((self._free + frame) * self._frame_length, self._end) for frame in (start, end)
        )
        piece = Piece(first, self._samples(first, last), forced or self._forced)
        self._drop(end)
        self._forced = forced
        return piece

    def keep_last(self, frames: int) -> None:
        """Leave out all but the last ``frames``."""
        self._forced = False
        self._drop(max(0, len(self.powers) - frames))

    def _samples(self, first: int, last: int) -> Samples:
        parts = [
            samples[max(0, first - start) : max(0, last - start)] for start, samples in self._held
        ]
        return np.concatenate(parts)

    def _drop(self, frames: int) -> None:
        self._free += frames
        self.powers, self.sounds = self.powers[frames:], self.sounds[frames:]
        free = self._free * self._frame_length
        self._held = [held for held in self._held if held[0] + len(held[1]) > free]
