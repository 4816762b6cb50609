"""Momentary loudness against pyloudnorm and the figures of the recommendation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.audio import Audio
from shards.clip import Clip
from shards.features.loudness import momentary_loudness
from shards.features.registry import features_named
from shards.pack.config import PackConfig


def tone(frequency: float, seconds: float, rate: int, level: float = 1.0) -> Audio:
    time = np.arange(round(seconds * rate)) / rate
    return Audio((level * np.sin(2 * np.pi * frequency * time)).astype(np.float32), rate)


def test_a_full_scale_sine_of_997_hz_is_minus_3_01_lufs() -> None:
    loudness = momentary_loudness(tone(997, 3, 48_000))
    assert np.abs(loudness[2:] + 3.01).max() < 0.01


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("frequency", [100, 440, 2000, 5000])
def test_a_steady_tone_is_as_loud_as_pyloudnorm_finds_it(frequency: float, rate: int) -> None:
    pyloudnorm = pytest.importorskip("pyloudnorm")
    audio = tone(frequency, 5, rate, level=0.1)
    integrated = pyloudnorm.Meter(48_000, filter_class="DeMan").integrated_loudness(
        tone(frequency, 5, 48_000, level=0.1).samples
    )
    assert np.abs(momentary_loudness(audio)[3:-4] - integrated).max() < 0.05


def test_it_is_heard_where_the_sound_is() -> None:
    sound, silence = tone(1000, 1, 16_000).samples, np.zeros(16_000, np.float32)
    loudness = momentary_loudness(Audio(np.concatenate([silence, sound, silence]), 16_000))
    assert (loudness[:6] == -70).all()  # windows that end before the tone begins
    assert (np.diff(loudness[6:11]) > 0).all()
    assert (loudness[10:16] > -4).all()
    assert (loudness[21:] < -40).all()


def test_silence_is_the_floor_and_nothing_is_below() -> None:
    assert (momentary_loudness(Audio(np.zeros(16_000, np.float32), 16_000)) == -70).all()
    assert (momentary_loudness(tone(1000, 1, 16_000, level=1e-6)) == -70).all()


def test_half_the_amplitude_is_six_decibels_less() -> None:
    loud, soft = (momentary_loudness(tone(800, 2, 16_000, level)) for level in (0.4, 0.2))
    np.testing.assert_allclose(loud - soft, 20 * np.log10(2), atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4000), st.sampled_from([8000, 16_000, 48_000]))
def test_there_is_a_frame_for_every_window_that_fits_and_at_least_one(
    milliseconds: int, rate: int
) -> None:
    loudness = momentary_loudness(tone(440, milliseconds / 1000, rate))
    assert loudness.dtype == np.float32
    assert len(loudness) == max(0, milliseconds - 400) // 100 + 1
    assert np.isfinite(loudness).all()


def test_the_feature_gives_it_and_refuses_a_clip_too_short() -> None:
    (feature,) = features_named(["loudness"], PackConfig(), Path())
    audio = tone(440, 1, 16_000)
    found = feature.compute(Clip("clip", "", "", "", audio, {}))
    assert np.array_equal(found, momentary_loudness(audio))
    assert (feature.about()["per_second"], len(found)) == (10, 7)
    with pytest.raises(ValueError, match=r"^audio too short to compute features from$"):
        feature.compute(Clip("clip", "", "", "", Audio(np.zeros(9, np.float32), 16_000), {}))
