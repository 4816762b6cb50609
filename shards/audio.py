"""Decoding audio files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

MIN_SECONDS = 0.1
"""The shortest clip that is of any use: two frames of units at 25 Hz."""


@dataclass(frozen=True, eq=False)
class Audio:
    """Mono samples in -1..1, float32 [samples]."""

    samples: npt.NDArray[np.float32]
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.samples) / self.sample_rate


def read_audio(path: Path) -> Audio:
    """Decode any format that libsndfile knows and average its channels.

    Raises soundfile.LibsndfileError for a file that is missing or cannot be decoded.
    """
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return Audio(np.ascontiguousarray(samples.mean(axis=1)), rate)


def measure(path: Path) -> float:
    """Duration in seconds from the file's header alone; raises as `read_audio`."""
    info = soundfile.info(path)
    return float(info.frames / info.samplerate)
