"""Decoding audio files: WAV, FLAC, MP3, OGG and Opus, any sample rate and channel count."""

from __future__ import annotations

import errno
import io
import re
from collections.abc import Iterator
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
MOST_SECONDS = 360_000.0
"""A header that claims more than 100 hours is not believed."""
_BLOCK_SECONDS = 60
_BLOCK_VALUES = 1 << 25
"""Decoded at once, however many channels there are: 128 MiB."""
_OUTAGES = {
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOTCONN,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
_MP3_FRAMES_BEFORE = 1 << 14
_WITHOUT_LENGTH = 0x7FFF_0000
"""A program that writes to a pipe puts so many bytes or more into a WAV's header."""


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


def opened(place: AudioPlace) -> soundfile.SoundFile:
    """The file at ``place``, its header read; one of UNREADABLE if it is no audio."""
    return soundfile.SoundFile(_readable(place))


def _readable(place: AudioPlace) -> Any:
    if place.size is None:
        return place.path
    return io.BytesIO(read_bytes(place))


def read_bytes(place: AudioPlace) -> bytes:
    """The encoded audio as it is."""
    with place.path.open("rb") as file:
        file.seek(place.offset)
        return file.read(-1 if place.size is None else place.size)


def outage(place: AudioPlace) -> str:
    """What keeps a file from being read that is the disk's or the network's fault; else "".

    libsndfile does not tell what the system said, so this asks again.
    """
    try:
        with place.path.open("rb") as file:
            file.seek(place.offset)
            file.read(1)
    except OSError as error:
        return f"{place.path}: {error.strerror}" if error.errno in _OUTAGES else ""
    return ""


def mono(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The mean of the channels, [samples, channels] -> [samples]."""
    if samples.shape[1] == 1:
        return np.ascontiguousarray(samples[:, 0])
    mean: npt.NDArray[np.float32] = samples.mean(axis=1)
    return mean


def blocks(file: soundfile.SoundFile, begin: int, frames: int) -> Iterator[npt.NDArray[np.float32]]:
    """Decode ``frames`` from ``begin`` on, or as many as there are, in blocks of at most a minute.

    Each is mono, [samples], and not empty; one of UNREADABLE where decoding fails. What is held
    depends on what is there, whatever the header claims.
    """
    size = max(1, min(_BLOCK_SECONDS * file.samplerate, _BLOCK_VALUES // file.channels))
    for start in range(begin, begin + frames, size):
        block = _read(file, start, min(size, begin + frames - start))
        if len(block) == 0:
            return
        yield mono(block)


def _read(file: soundfile.SoundFile, start: int, frames: int) -> npt.NDArray[np.float32]:
    # An MP3 frame draws on those before it, and soundfile seeks after every read: the first
    # samples after a seek are wrong, so they are decoded once more and thrown away.
    before = min(start, _MP3_FRAMES_BEFORE) if file.format == "MP3" else 0
    if file.tell() != start - before:
        file.seek(start - before)
    samples: npt.NDArray[np.float32] = file.read(before + frames, dtype="float32", always_2d=True)
    return samples[before:]


def joined(parts: Iterator[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Blocks as one array, [samples]."""
    first = next(parts, np.empty(0, np.float32))
    rest = list(parts)
    return np.concatenate([first, *rest]) if rest else first


def promised(file: soundfile.SoundFile) -> int:
    """About how many frames the header tells of: a WAV that was cut off has fewer."""
    frames: int = file.frames
    if file.format not in ("WAV", "WAVEX"):
        return frames
    # libsndfile counts what is there, and tells the difference in its log alone.
    found = re.search(r"^data : (\d+) \(should be (\d+)\)$", file.extra_info, re.MULTILINE)
    claimed, there = map(int, found.groups()) if found else (0, 0)
    return frames * claimed // there if 0 < there < claimed < _WITHOUT_LENGTH else frames


def estimated(file: soundfile.SoundFile, place: AudioPlace) -> bool:
    """Whether the file's length is a guess: an MP3's without a Xing, Info or VBRI frame."""
    if file.format != "MP3":
        return False
    with place.path.open("rb") as encoded:
        encoded.seek(place.offset)
        head = encoded.read(10)
        tag = 0
        if head.startswith(b"ID3"):
            # The size of an ID3v2 tag has seven bits a byte.
            tag = 10 + sum(byte << 7 * place for place, byte in enumerate(reversed(head[6:])))
        encoded.seek(place.offset + tag)
        first = encoded.read(256)
    return not any(mark in first for mark in (b"Xing", b"Info", b"VBRI"))


def measure(place: AudioPlace) -> float:
    """Duration in seconds from the file's header alone; raises as `opened`."""
    with opened(place) as file:
        return float(file.frames / file.samplerate)
