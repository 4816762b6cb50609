"""What a clip's sound is worth, in figures."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from shards.audio import Audio
from shards.quality.voice import (
    Powers,
    Samples,
    frame_length,
    frame_moments,
    loudest,
    smoothed,
)

FIGURES = ("peak", "clipping", "silence", "snr_db", "dc", "bandwidth_hz")
"""The keys of `measure`."""

_LARGEST = 1e9
# Rounding to 16 bits has a power of 0.8e-10.
_ROUNDING_POWER = 1e-10

_NEAR, _STEP = 0.99, 0.002
_LEAST_CEILING = 0.05
_LEAST_RUN = 3

_SILENT_SHARE = 1e-4
_SILENT_POWER = 1e-7

_NOISE_SHARE = 0.05
_NOISE_FRAMES = 3
_SNR_RANGE = (-20.0, 80.0)

_SPECTRA = 48
_BIN_HZ = 86.0
_EMPTY_SHARE = 1e-6
# Noise of the variance v has the power v in every bin; triangular dither of 16 bits has 2.3e-10.
_EMPTY_POWER = 1e-9


def measure(audio: Audio) -> dict[str, float]:
    """The `FIGURES` of a clip, all finite; ValueError for NaN, infinities and the like.

    - ``peak``: the largest absolute sample.
    - ``clipping``: the share of the samples that are clipped, see `clipping`.
    - ``silence``: the share of 10 ms frames 40 dB under the loud ones, or under -70 dB.
    - ``snr_db``: estimated, see `snr_db`.
    - ``dc``: the mean.
    - ``bandwidth_hz``: the frequency above which there is nothing, see `bandwidth_hz`.

    A clip without samples is all silence; its other figures are 0.
    """
    samples = audio.samples
    if not len(samples):
        return {**dict.fromkeys(FIGURES, 0.0), "silence": 1.0}
    starts = np.arange(0, len(samples), frame_length(audio.sample_rate))
    lows, highs = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
    peak = float(max(-lows.min(), highs.max()))
    # Not `peak > _LARGEST`: a NaN compares as False.
    if not peak <= _LARGEST:
        raise ValueError("samples that are no numbers")
    means, powers = frame_moments(samples, audio.sample_rate)
    lengths = np.diff(starts, append=len(samples))
    return {
        "peak": peak,
        "clipping": clipping(audio, lows, highs),
        "silence": silence(powers),
        "snr_db": snr_db(powers),
        "dc": float(np.dot(means.astype(np.float64), lengths)) / len(samples),
        "bandwidth_hz": bandwidth_hz(audio),
    }


def clipping(audio: Audio, lows: Samples, highs: Samples) -> float:
    """The share of samples in flat runs at the clip's ceiling or its floor.

    ``lows`` and ``highs`` are the extremes of its frames, [frames]. A run is three or more samples
    within 1 % of the ceiling, each within 0.2 % of the last. So it is found after a change of
    volume too, and one full-scale sample alone is none. The ceiling is at most full scale: samples
    beyond it will be clipped. Under 0.05 nothing counts: there steps of 8 bits are flat runs.
    """
    flat = 0
    size = frame_length(audio.sample_rate)
    for sign, extremes in ((1, highs), (-1, -lows)):
        ceiling = float(extremes.max())
        if ceiling < _LEAST_CEILING:
            continue
        level = _NEAR * min(ceiling, 1.0)
        # Few frames come near it, so few samples are compared.
        frames = np.flatnonzero(extremes >= level)
        numbers = (frames[:, None] * size + np.arange(size)).ravel()
        numbers = numbers[numbers < len(audio.samples)]
        flat += _flat(audio.samples, numbers[sign * audio.samples[numbers] >= level])
    return flat / len(audio.samples)


def _flat(samples: Samples, near: npt.NDArray[np.int64]) -> int:
    """How many of the samples numbered ``near``, all near one ceiling, are in flat runs."""
    if len(near) < _LEAST_RUN:
        return 0
    values = np.clip(samples[near], -1, 1)
    joined = (np.diff(near) == 1) & (np.abs(np.diff(values)) <= _STEP * np.abs(values[1:]))
    breaks = np.flatnonzero(~joined)
    lengths = np.diff(np.concatenate(([-1], breaks, [len(near) - 1])))
    return int(lengths[lengths >= _LEAST_RUN].sum())


def silence(powers: Powers) -> float:
    """The share of frames 40 dB or more under what the loudest 0.2 s reach, or under -70 dB."""
    threshold = max(loudest(powers) * _SILENT_SHARE, _SILENT_POWER)
    return float(np.mean(powers < threshold))


def snr_db(powers: Powers) -> float:
    """The signal-to-noise ratio in dB, -20 to 80, from the powers of the frames.

    The noise is the mean of the quietest 5 % of the frames, smoothed over 30 ms; the signal is what
    the mean of all frames has beyond that. Digital silence is not counted among the quietest: it
    hides the noise. White noise of 0 to 40 dB in speech with pauses comes out within about 2 dB; in
    speech without pauses the estimate ends at 20 to 30 dB, so it is a lower bound. 0 where there is
    digital silence only.
    """
    heard = smoothed(powers, _NOISE_FRAMES)
    heard = heard[heard > _ROUNDING_POWER]
    if not len(heard):
        return 0.0
    quietest = max(1, int(len(heard) * _NOISE_SHARE))
    noise = float(np.partition(heard, quietest - 1)[:quietest].mean())
    signal = max(float(powers.mean()) - noise, noise * 1e-9)
    return float(np.clip(10 * np.log10(signal / noise), *_SNR_RANGE))


def bandwidth_hz(audio: Audio) -> float:
    """The highest frequency with a millionth (-60 dB) of the strongest one's power, in Hz.

    Powers are means over at most 48 windows spread evenly over the clip, in bins of about 86 Hz.
    What the rounding and dither of 16 bits can be does not count, nor do the two lowest bins (an
    offset, hum). Material of 8 kHz gives about 4000 whatever its rate; the mirror images that a
    resampler without a good filter leaves count like any other sound.
    """
    size = 1 << max(1, round(math.log2(audio.sample_rate / _BIN_HZ)))
    size = min(size, len(audio.samples))
    powers = _mean_powers(audio.samples, size)[2:]
    if not len(powers):
        return 0.0
    filled = np.flatnonzero(powers > max(_EMPTY_POWER, float(powers.max()) * _EMPTY_SHARE))
    if not len(filled):
        return 0.0
    edge = (int(filled[-1]) + 2.5) / size
    return min(edge, 0.5) * audio.sample_rate


def _mean_powers(samples: Samples, size: int) -> Powers:
    count = min(_SPECTRA, len(samples) // size)
    step = max(1, (len(samples) - size) // max(1, count - 1))
    windows = sliding_window_view(samples, size)[::step][:count]
    window = _hann(size)
    spectra = np.fft.rfft(windows * window)
    powers = np.einsum("ij,ij->j", spectra.real, spectra.real)
    powers += np.einsum("ij,ij->j", spectra.imag, spectra.imag)
    mean: Powers = powers / (count * np.square(window).sum())
    return mean


@cache
def _hann(size: int) -> Samples:
    return np.hanning(size + 2)[1:-1].astype(np.float32)
