"""Speech by espeak-ng for tests of sound."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from shards import espeak

RATE = 22_050
"""espeak-ng's own."""

Samples = npt.NDArray[np.float32]

TEXT = (
    "Nobody noticed how the doctor fixed the broken radio; she would rather have stayed at home. "
    "What time is it? Six silver swans swim swiftly in the frozen river."
)


@cache
def spoken(text: str = TEXT, voice: str = "en-us+f3") -> Samples:
    """``text`` with the silence that espeak-ng puts around it, float32 [samples]."""
    samples, _ = espeak.synthesize(text, voice, words_per_minute=165, pitch=50)
    return samples.astype(np.float32) / 32768


@cache
def word(text: str) -> Samples:
    """A word from its first audible sample to its last."""
    samples = spoken(text)
    loud = np.flatnonzero(np.abs(samples) > 0.003)
    return samples[loud[0] : loud[-1] + 1]


def with_noise(samples: Samples, snr_db: float) -> Samples:
    """White noise added, of ``snr_db`` less power than the whole."""
    power = float(np.square(samples, dtype=np.float64).mean()) / 10 ** (snr_db / 10)
    noise = np.random.default_rng(0).normal(0, np.sqrt(power), len(samples))
    return (samples + noise).astype(np.float32)


def rounded(samples: Samples, bits: int) -> Samples:
    """What is left of ``samples`` after storing them as integers."""
    scale = 2 ** (bits - 1)
    return (np.clip(np.round(samples * scale), -scale, scale - 1) / scale).astype(np.float32)
