"""Sampling of Seed-VC: where it leads, what it depends on, and how it sounds."""

from __future__ import annotations

import math

import pytest
import torch
from test_seed_vc import batch_of, config_of
from torch import Tensor

from pretrain.models.protocol import Previewing
from pretrain.models.seed_vc.flow import SIGMA_MIN
from pretrain.models.seed_vc.frames import padded_mel
from pretrain.models.seed_vc.griffin_lim import griffin_lim
from pretrain.models.seed_vc.model import SeedVC
from pretrain.models.seed_vc.preview import one_above_the_other
from pretrain.models.seed_vc.sampling import guided, prompts_of, sampled, start_of
from shards.features.mel_spectrogram import PRESETS, MelParameters, mel_spectrogram

LONG = {"a": 12_000, "b": 16_000, "c": 9000}
PARAMETERS = PRESETS["seed_vc_22k"]


@pytest.fixture
def longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips long enough to be heard."""
    monkeypatch.setattr("test_seed_vc.SAMPLES", LONG)


def test_the_exact_velocity_leads_to_the_mel_in_any_number_of_steps() -> None:
    mel, prompts = torch.randn(2, 80, 30), torch.tensor([10, 0])
    noise = start_of(80, 30, ("a", "b"), torch.device("cpu"))

    def velocity(x: Tensor, _prompt: Tensor, time: Tensor) -> Tensor:
        keep = 1 - SIGMA_MIN
        return (mel - keep * x) / (1 - keep * time)[:, None, None]

    for steps in (1, 7):
        found = sampled(velocity, noise, mel, prompts, steps)
        torch.testing.assert_close(found, mel, rtol=1e-4, atol=1e-4)


def test_the_estimator_is_shown_the_prompt_and_zeros_in_its_place() -> None:
    mel, prompts, seen = torch.randn(1, 80, 12), torch.tensor([4]), []

    def velocity(x: Tensor, prompt: Tensor, time: Tensor) -> Tensor:
        seen.append((x, prompt, float(time)))
        return torch.ones_like(x)

    found = sampled(velocity, torch.randn(1, 80, 12), mel, prompts, 4)
    assert [time for *_, time in seen] == [0, 0.25, 0.5, 0.75]
    assert not any(x[:, :, :4].any() for x, *_ in seen)
    assert torch.equal(seen[0][1][:, :, :4], mel[:, :, :4]) and not seen[0][1][:, :, 4:].any()
    assert torch.equal(found[:, :, :4], mel[:, :, :4])


def test_guidance_goes_beyond_the_conditions_by_what_they_make_of_a_difference() -> None:
    def estimate(x: Tensor, _prompt: Tensor, _time: Tensor, keep: Tensor) -> Tensor:
        return x + 2 * keep[:, None, None]

    x, time = torch.zeros(1, 2, 3), torch.zeros(1)
    assert torch.equal(guided(estimate, 0.7)(x, x, time), torch.full((1, 2, 3), 3.4))
    assert torch.equal(guided(estimate, 0.0)(x, x, time), torch.full((1, 2, 3), 2.0))


@pytest.mark.usefixtures("longer")
def test_a_clip_is_sampled_alike_alone_in_company_and_whatever_was_drawn_before() -> None:
    torch.manual_seed(3)
    model = SeedVC(config_of(f0_condition=True, sampling_steps=2)).eval()
    assert isinstance(model, Previewing)
    with torch.no_grad():
        together = model.previews(batch_of("a", "b", "c", padding=1000))
        state = torch.get_rng_state()
        alone = [preview for key in "abc" for preview in model.previews(batch_of(key))]
        assert torch.equal(state, torch.get_rng_state())
    for one, other in zip(together, alone, strict=True):
        assert one.key == other.key
        apart = one.pictures["mel"].int() - other.pictures["mel"].int()
        assert apart.abs().max() <= 3
        for name in ("target", "sampled"):
            frames = LONG[one.key] // PARAMETERS.hop
            assert one.sounds[name].samples.shape == ((frames - 1) * PARAMETERS.hop,)
            assert one.sounds[name].sample_rate == 22_050
    assert len({preview.pictures["mel"].sum() for preview in together}) == 3


@pytest.mark.usefixtures("longer")
def test_the_picture_has_the_target_above_and_the_prompt_in_both_halves() -> None:
    config = config_of(sampling_steps=1)
    batch = batch_of("a")
    with torch.no_grad():
        (preview,) = SeedVC(config).eval().previews(batch)
    mel, lengths = padded_mel(batch, config.mel_parameters)
    picture, prompt = preview.pictures["mel"], int(prompts_of(lengths))
    above, rule, below = picture.split([80, 4, 80])
    assert picture.shape[1:] == (mel.shape[2], 3) and picture.dtype == torch.uint8
    assert torch.equal(above[:, :prompt], below[:, :prompt])
    assert not torch.equal(above[:, prompt:], below[:, prompt:])
    assert rule[:, :prompt].min() == 255 and rule[:, prompt:].max() == 0


def test_low_frequencies_lie_lowest_and_colours_are_the_targets() -> None:
    rising = torch.arange(80.0)[:, None].expand(80, 6)
    above, _, below = one_above_the_other(rising, rising - 200, 2).split([80, 4, 80])
    assert above[0, 0].tolist() == [253, 231, 37] and above[79, 0].tolist() == [68, 1, 84]
    assert (below == below[0, 0]).all() and below[0, 0].tolist() == [68, 1, 84]


@pytest.mark.parametrize("parameters", [PARAMETERS, PRESETS["seed_vc_44k"]])
def test_a_tone_is_heard_at_its_frequency(parameters: MelParameters) -> None:
    hertz, rate = 440.0, parameters.sample_rate
    time = torch.arange(rate) / rate
    mel = mel_spectrogram(0.3 * torch.sin(2 * math.pi * hertz * time), parameters)
    samples = griffin_lim(mel, parameters)
    spectrum = torch.fft.rfft(samples).abs()
    found = float(spectrum.argmax()) * rate / len(samples)
    assert found == pytest.approx(hertz, abs=rate / parameters.n_fft)
    assert float(samples.std()) == pytest.approx(0.3 / math.sqrt(2), rel=0.3)


def test_what_a_diverged_model_samples_is_sound_all_the_same() -> None:
    mel = torch.full((80, 40), 1e6)
    mel[3, 7] = torch.nan
    samples = griffin_lim(mel, PARAMETERS)
    assert samples.isfinite().all() and samples.abs().max() <= 1
    assert len(samples) == 39 * PARAMETERS.hop
    assert len(griffin_lim(mel[:, :2], PARAMETERS)) == PARAMETERS.hop
