"""Changes to the sound itself, all off by default."""

from __future__ import annotations

import math
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import numpy as np
from pydantic import Field

from shards.audio import Audio
from shards.errors import UserError
from shards.quality.voice import Flags, Samples, frame_length, listen
from shards.section import Section

_LEAST_NOISE_SECONDS = 0.2
_WINDOWS_PER_SECOND = 44
# The library's defaults of 1.5 deviations and 500 Hz, in windows of 46 ms, took 3 dB of the speech
# out with noise of 10 dB, these 1 dB.
_DEVIATIONS, _SMOOTHED_HZ = 1.0, 200
_BLOCK_SECONDS = 0.4


class CleanConfig(Section):
    """``clean``: what is done to the sound of every clip, in this order."""

    trim: bool = Field(default=False, description="cut off silence at the clip's ends")
    keep_silence: float = Field(default=0.1, ge=0, description="seconds of it that trim leaves")
    denoise: float = Field(
        default=0.0, ge=0, le=1, description="share of the noise to take out by spectral gating"
    )
    loudness: float | None = Field(
        default=None, ge=-70, le=0, description="bring to so many LUFS (ITU-R BS.1770)"
    )


def require(config: CleanConfig) -> None:
    """UserError if a library that ``config`` needs is not installed."""
    if config.denoise and find_spec("noisereduce") is None:
        raise _missing("clean.denoise", "noisereduce")
    if config.loudness is not None and find_spec("pyloudnorm") is None:
        raise _missing("clean.loudness", "pyloudnorm")


def _missing(key: str, library: str) -> UserError:
    return UserError(
        f"{key} needs {library}, which is not installed; "
        "install it with: pip install 'segue-speech[clean]'"
    )


def trimmed(audio: Audio, config: CleanConfig) -> tuple[Audio, float]:
    """``audio`` without the silence at its ends (see `shards.quality.voice`), if ``trim`` is set.

    And the seconds cut off its start. ``keep_silence`` seconds stay at each end; a clip that is
    silent all through stays as it is.
    """
    if not config.trim:
        return audio, 0.0
    frames = np.flatnonzero(_sounds(audio))
    if not len(frames):
        return audio, 0.0
    size, kept = frame_length(audio.sample_rate), round(config.keep_silence * audio.sample_rate)
    start = max(0, int(frames[0]) * size - kept)
    end = (int(frames[-1]) + 1) * size + kept
    return Audio(audio.samples[start:end], audio.sample_rate), start / audio.sample_rate


def _sounds(audio: Audio) -> Flags:
    judged = [stretch.sounds for stretch in listen([audio.samples], audio.sample_rate)]
    return np.concatenate(judged) if judged else np.empty(0, np.bool_)


def cleaned(audio: Audio, config: CleanConfig) -> Audio:
    """``audio`` denoised and at ``loudness``, as far as ``config`` asks; float32 [samples].

    UserError if a library for it is missing, ValueError for NaN and infinities.
    """
    if not config.denoise and config.loudness is None:
        return audio
    if not np.isfinite(audio.samples).all():
        raise ValueError("samples that are no numbers")
    samples = audio.samples
    if config.denoise:
        samples = _denoised(audio, config.denoise)
    if config.loudness is not None:
        samples = _at_loudness(samples, audio.sample_rate, config.loudness)
    return Audio(samples, audio.sample_rate)


def _denoised(audio: Audio, share: float) -> Samples:
    """Stationary spectral gating. What the clip's pauses hold, 0.2 s or more of it, is its noise.

    Without such pauses nothing is known of the noise, and the samples stay as they are: statistics
    over speech itself would take out 10 dB of it.
    """
    silent = np.repeat(~_sounds(audio), frame_length(audio.sample_rate))[: len(audio.samples)]
    noise = audio.samples[silent]
    if len(noise) < _LEAST_NOISE_SECONDS * audio.sample_rate:
        return audio.samples
    window = 1 << max(6, round(math.log2(audio.sample_rate / _WINDOWS_PER_SECOND)))
    denoised: Samples = _library("clean.denoise", "noisereduce").reduce_noise(
        y=audio.samples,
        sr=audio.sample_rate,
        stationary=True,
        y_noise=noise,
        prop_decrease=share,
        n_fft=window,
        n_std_thresh_stationary=_DEVIATIONS,
        freq_mask_smooth_hz=_SMOOTHED_HZ,
    )
    return denoised


def _at_loudness(samples: Samples, sample_rate: int, lufs: float) -> Samples:
    """``samples`` at ``lufs`` or, where that would exceed full scale, as loud as full scale allows.

    A clip shorter than the 0.4 s of a measuring block is measured as one block. One of which
    nothing is louder than -70 LUFS has no loudness and stays as it is.
    """
    if not len(samples):
        return samples
    # Half a sample less than the clip: the meter refuses a block that rounding makes longer.
    block = min(_BLOCK_SECONDS, (len(samples) - 0.5) / sample_rate)
    meter = _library("clean.loudness", "pyloudnorm").Meter(sample_rate, "DeMan", block)
    found = meter.integrated_loudness(samples.astype(np.float64))
    if not math.isfinite(found):
        return samples
    gain = min(10 ** ((lufs - found) / 20), 1 / float(np.abs(samples).max()))
    # The limit only takes off what rounding adds.
    louder: Samples = np.clip(samples * np.float32(gain), -1, 1)
    return louder


def _library(key: str, name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError:
        raise _missing(key, name) from None
