"""The pitch of tones that are known, and of what has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_models import clip_of

from shards.audio import Audio
from shards.features.registry import features_named
from shards.pack.config import PackConfig


def pitch_of(audio: Audio) -> np.ndarray:
    (feature,) = features_named(["f0.pyworld"], PackConfig(), Path())
    found = feature.compute(clip_of(audio))
    assert found is not None and found.dtype == np.float32
    return found


def tone(hertz: float, sample_rate: int) -> Audio:
    """A second of ten harmonics that fall off as a voice's do."""
    time = np.arange(sample_rate) / sample_rate
    parts = [np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 11)]
    return Audio((0.1 * sum(parts)).astype(np.float32), sample_rate)


@pytest.mark.parametrize("sample_rate", [16_000, 44_100])
@pytest.mark.parametrize("hertz", [80.0, 220.0, 440.0])
def test_a_tone_has_its_pitch_every_10_ms(hertz: float, sample_rate: int) -> None:
    pitch = pitch_of(tone(hertz, sample_rate))
    assert pitch.shape == (101,)
    assert np.abs(pitch[10:-10] / hertz - 1).max() < 0.01


def test_silence_has_no_pitch() -> None:
    assert (pitch_of(Audio(np.zeros(1600, np.float32), 16_000)) == 0).all()
