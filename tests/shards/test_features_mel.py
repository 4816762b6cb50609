"""Log-mel spectrograms against a second implementation, written from the formulas."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shards.audio import Audio
from shards.clip import Clip
from shards.features.feature import Feature
from shards.features.mel_spectrogram import PRESETS, MelParameters, MelPreset, mel_spectrogram
from shards.features.registry import features_named
from shards.pack.config import PackConfig

SILENCE = np.log(1e-5)

# sample rate, transform, hop, bands, highest frequency, under the root, log range of v3 and v4
PUBLISHED = {
    "seed_vc_22k": (22_050, 1024, 256, 80, 11_025, 1e-9, None),
    "seed_vc_22k_hifigan": (22_050, 1024, 256, 80, 8_000, 1e-9, None),
    "seed_vc_44k": (44_100, 2048, 512, 128, 22_050, 1e-9, None),
    "gpt_sovits_s2": (32_000, 2048, 640, 128, 16_000, 1e-8, None),
    "gpt_sovits_v3": (24_000, 1024, 256, 100, 12_000, 1e-8, (-12, 2)),
    "gpt_sovits_v4": (32_000, 1280, 320, 100, 16_000, 1e-8, (-12, 2)),
}


def mel_of(frequency: np.ndarray) -> np.ndarray:
    """Slaney's Auditory Toolbox: linear to 1 kHz, 27 bands per factor of 6.4 above."""
    with np.errstate(divide="ignore"):
        above = 15 + 27 * np.log(frequency / 1000) / np.log(6.4)
    return np.where(frequency < 1000, 3 * frequency / 200, above)


def frequency_of(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, 200 * mel / 3, 1000 * 6.4 ** ((mel - 15) / 27))


def slaney_filters(rate: int, n_fft: int, bands: int, highest: float) -> np.ndarray:
    """[bands, n_fft / 2 + 1]: triangles of area one."""
    bins = np.arange(n_fft // 2 + 1) * rate / n_fft
    edges = frequency_of(np.linspace(0, mel_of(np.array(highest)), bands + 2))
    rows = []
    for (low, peak), high in zip(pairwise(edges), edges[2:], strict=False):
        rise, fall = (bins - low) / (peak - low), (high - bins) / (high - peak)
        rows.append(np.maximum(0, np.minimum(rise, fall)) * 2 / (high - low))
    return np.array(rows)


def reference(samples: np.ndarray, preset: str) -> np.ndarray:
    rate, n_fft, hop, bands, highest, epsilon, log_range = PUBLISHED[preset]
    margin = (n_fft - hop) // 2
    padded = np.pad(samples.astype(np.float64), margin, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    starts = range(0, len(padded) - n_fft + 1, hop)
    spectrum = np.fft.rfft([padded[start : start + n_fft] * window for start in starts])
    magnitude = np.sqrt(spectrum.real**2 + spectrum.imag**2 + epsilon)
    logs = np.log(np.maximum(slaney_filters(rate, n_fft, bands, highest) @ magnitude.T, 1e-5))
    if log_range is None:
        return logs
    return (logs - log_range[0]) / (log_range[1] - log_range[0]) * 2 - 1


def noise(samples: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(samples)
    return torch.randn(*shape, samples, generator=generator) * 0.1


def mel_feature(preset: MelPreset) -> Feature:
    config = PackConfig.model_validate({"mel": {"preset": preset}})
    return features_named(["mel"], config, Path())[0]


def clip_of(samples: torch.Tensor, rate: int) -> Clip:
    return Clip("clip", "", "", "", Audio(samples.numpy(), rate), {})


def test_every_preset_is_there_and_no_other() -> None:
    assert set(get_args(MelPreset)) == set(PRESETS) == set(PUBLISHED)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_what_its_model_publishes(preset: MelPreset) -> None:
    parameters = PRESETS[preset]
    samples = noise(parameters.sample_rate // 2) * torch.linspace(0, 1, parameters.sample_rate // 2)
    found = mel_spectrogram(samples, parameters).numpy()
    np.testing.assert_allclose(found, reference(samples.numpy(), preset), atol=2e-4)


@pytest.mark.parametrize("preset", PRESETS)
def test_silence_is_the_floor(preset: MelPreset) -> None:
    parameters = PRESETS[preset]
    floor = SILENCE if parameters.unit_range is None else (SILENCE + 12) / 14 * 2 - 1
    silence = mel_spectrogram(torch.zeros(parameters.sample_rate), parameters).numpy()
    np.testing.assert_allclose(silence, floor, atol=1e-5)


def test_silence_of_the_plain_presets_is_minus_11_5129() -> None:
    silence = mel_spectrogram(torch.zeros(22_050), PRESETS["seed_vc_22k"])
    assert abs(float(silence.mean()) + 11.5129) < 1e-4


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(PRESETS)), st.integers(800, 6000))
def test_there_is_a_frame_for_every_whole_hop(preset: MelPreset, samples: int) -> None:
    parameters = PRESETS[preset]
    found = mel_spectrogram(torch.zeros(samples), parameters)
    assert found.shape == (parameters.n_mels, samples // parameters.hop)


@pytest.mark.parametrize("shape", [(3,), (2, 2), (1,)])
def test_a_batch_is_its_clips(shape: tuple[int, ...]) -> None:
    parameters = PRESETS["seed_vc_22k"]
    batch = noise(4000, *shape)
    found = mel_spectrogram(batch, parameters)
    assert found.shape == (*shape, 80, 15)
    alone = mel_spectrogram(batch.reshape(-1, 4000)[-1], parameters)
    np.testing.assert_allclose(found.reshape(-1, 80, 15)[-1], alone, atol=1e-5)


@pytest.mark.parametrize("length", [0, 1, 384])
def test_a_signal_too_short_to_reflect_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=r"^audio too short for a mel spectrogram$"):
        mel_spectrogram(torch.zeros(length), PRESETS["seed_vc_22k"])


def test_it_can_be_trained_through_after_inference() -> None:
    parameters = MelParameters(16_000, 512, 128, 40, 1e-9)
    with torch.inference_mode():
        mel_spectrogram(noise(4000), parameters)
    samples = noise(4000).requires_grad_()
    mel_spectrogram(samples, parameters).sum().backward()
    assert samples.grad is not None and samples.grad.isfinite().all() and samples.grad.any()


def test_the_gradient_of_silence_is_finite() -> None:
    samples = torch.zeros(4000, requires_grad=True)
    mel_spectrogram(samples, PRESETS["seed_vc_22k"]).sum().backward()
    assert samples.grad is not None and samples.grad.isfinite().all()


def test_a_step_in_half_precision_does_not_change_it() -> None:
    parameters = PRESETS["seed_vc_22k"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = mel_spectrogram(noise(4000), parameters)
    assert torch.equal(found, mel_spectrogram(noise(4000), parameters))


def test_the_feature_resamples_and_stores_half_precision() -> None:
    found = mel_feature("seed_vc_44k").compute(clip_of(noise(22_050), 22_050))
    assert found is not None
    assert found.dtype == np.float16 and found.shape == (128, 44_100 // 512)


def test_half_precision_is_within_a_two_hundredth() -> None:
    samples = noise(22_050)
    found = mel_feature("seed_vc_22k").compute(clip_of(samples, 22_050))
    exact = mel_spectrogram(samples, PRESETS["seed_vc_22k"]).numpy()
    assert found is not None and np.abs(found.astype(np.float32) - exact).max() < 0.005


def test_a_clip_too_short_is_refused_without_figures() -> None:
    with pytest.raises(ValueError, match=r"^audio too short to compute features from$"):
        mel_feature("seed_vc_22k").compute(clip_of(torch.zeros(2000), 22_050))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_tenth_of_a_second_is_enough_for_every_preset(preset: MelPreset) -> None:
    assert mel_feature(preset).compute(clip_of(torch.zeros(800), 8000)) is not None


def test_the_index_learns_every_parameter() -> None:
    about = mel_feature("gpt_sovits_v3").about()
    assert about["preset"] == "gpt_sovits_v3"
    assert (about["sample_rate"], about["hop"], about["n_mels"]) == (24_000, 256, 100)
    assert list(json.loads(json.dumps(about))["unit_range"]) == [-12, 2]


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match="seed_vc_44k"):
        PackConfig.model_validate({"mel": {"preset": "seed_vc"}})
