"""Decoding audio files: WAV, FLAC, MP3, OGG and Opus, any sample rate and channel count."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

MIN_SECONDS = 0.1
"""The shortest clip that is of any use: two frames of units at 25 Hz."""
EXTENSIONS = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".oga", ".aif", ".aiff", ".w64"})
"""Suffixes, in lower case, of the files taken for audio."""
UNREADABLE = (soundfile.LibsndfileError, OSError, TypeError, ZeroDivisionError)
"""What opening a file that is no audio raises (TypeError: a headerless .raw)."""


@dataclass(frozen=True)
class AudioPlace:
    """Where encoded audio lies: a file, or ``size`` bytes of one from ``offset`` on."""

    path: Path
    offset: int = 0
    size: int | None = None


@dataclass(frozen=True, eq=False)
class Audio:
    """Mono samples in -1..1, float32 [samples]."""

    samples: npt.NDArray[np.float32]
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.samples) / self.sample_rate

    def at(self, sample_rate: int) -> Audio:
        """The same sound at another rate."""
        if sample_rate == self.sample_rate:
            return self
        return Audio(soxr.resample(self.samples, self.sample_rate, sample_rate), sample_rate)


@contextmanager
def opened(place: AudioPlace) -> Iterator[soundfile.SoundFile]:
    """The file at ``place``, its header read; one of UNREADABLE if it is no audio."""
    with soundfile.SoundFile(_readable(place)) as file:
        yield file


def _readable(place: AudioPlace) -> Any:
    if place.size is None:
        return place.path
    return io.BytesIO(read_bytes(place))


def read_bytes(place: AudioPlace) -> bytes:
    """The encoded audio as it is."""
    with place.path.open("rb") as file:
        file.seek(place.offset)
        return file.read(-1 if place.size is None else place.size)


def mono(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The mean of the channels, [samples, channels] -> [samples]."""
    if samples.shape[1] == 1:
        return np.ascontiguousarray(samples[:, 0])
    mean: npt.NDArray[np.float32] = samples.mean(axis=1)
    return mean


def read_audio(path: Path) -> Audio:
    """Decode a whole file; one of UNREADABLE if it is missing or cannot be decoded."""
    with opened(AudioPlace(path)) as file:
        return Audio(mono(file.read(dtype="float32", always_2d=True)), file.samplerate)


def measure(place: AudioPlace) -> float:
    """Duration in seconds from the file's header alone; raises as `opened`."""
    with opened(place) as file:
        return float(file.frames / file.samplerate)
