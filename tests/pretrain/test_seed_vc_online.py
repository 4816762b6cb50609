"""Content and voice computed while Seed-VC trains, against those that packing stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from indexes import corpus_of, index_of

from pretrain.models.seed_vc.config import SeedVCConfig
from pretrain.models.seed_vc.model import SeedVC
from shards.audio import Audio
from shards.clip import Clip
from shards.collate import Batch, pad
from shards.errors import UserError
from shards.features import campplus_checkpoint
from shards.features.campplus import CamPlusPlus
from shards.features.content_mfcc import MfccContent
from shards.features.style_mean_mel import MeanMelStyle
from shards.fields import Field
from shards.plan import BatchConfig, Plan

SMALL: dict[str, Any] = {
    "hidden_dim": 32,
    "head": 2,
    "n_layer": 4,
    "content_channels": 39,
    "content_dim": 16,
    "content_codebook": 8,
    "wavenet": {"layers": 2, "dropout": 0.5},
    "online": {"content": "mfcc", "style": "mean_mel"},
    "class_dropout": 0,
}
RATES = {"seed_vc_22k": 22_050, "seed_vc_44k": 44_100}


def config_of(**changes: Any) -> SeedVCConfig:
    return SeedVCConfig.model_validate({**SMALL, **changes})


def sound(seconds: float, rate: int = 24_000) -> Audio:
    """Noise that rises and falls, nothing above 7 kHz: what every resampler keeps."""
    generator = np.random.default_rng(round(100 * seconds))
    size = round(seconds * rate)
    spectrum = np.fft.rfft(generator.standard_normal(size))
    spectrum[np.fft.rfftfreq(size, 1 / rate) > 7000] = 0
    swell = 0.1 * (1.1 + np.sin(np.arange(size) / 2000))
    hiss = 1e-3 * generator.standard_normal(size)
    return Audio((swell * np.fft.irfft(spectrum, size) + hiss).astype(np.float32), rate)


def batch_of(mel: str, seconds: Sequence[float], *, packed: bool) -> Batch:
    sounds = [sound(one) for one in seconds]
    members = {"audio": [one.at(RATES[mel]).samples for one in sounds]}
    if packed:
        clips = [Clip("", "", "", "", one, {}) for one in sounds]
        members["content"] = [MfccContent().compute(clip) for clip in clips]
        members["style"] = [MeanMelStyle().compute(clip) for clip in clips]
    padded = {name: pad(found, Field(name, 0, "float32")) for name, found in members.items()}
    arrays, lengths = ({name: both[i] for name, both in padded.items()} for i in (0, 1))
    keys = tuple(str(one) for one in seconds)
    return Batch(0, 0, keys, np.arange(len(keys)), arrays, lengths)


def losses(model: SeedVC, batch: Batch) -> torch.Tensor:
    torch.manual_seed(3)
    found: torch.Tensor = model(batch)["loss"]
    return found


def models(**changes: Any) -> tuple[SeedVC, SeedVC]:
    torch.manual_seed(0)
    packed, online = (
        SeedVC(config_of(features=features, **changes)) for features in ("packed", "online")
    )
    with torch.no_grad():  # fresh weights hardly listen to the content
        packed.estimator.cond_projection.weight.mul_(100)
    online.load_state_dict(packed.state_dict())
    return packed, online


@pytest.fixture
def campplus(tmp_path: Path) -> Path:
    path = tmp_path / "campplus.bin"
    torch.save(CamPlusPlus().state_dict(), path)
    return path


@pytest.mark.parametrize("mel", RATES)
def test_online_features_and_losses_are_those_of_packing(mel: str) -> None:
    packed, online = models(mel=mel)
    stored = batch_of(mel, (0.9, 1.43), packed=True)
    bare = batch_of(mel, (0.9, 1.43), packed=False)
    found = online.conditioned(bare)
    for name, most in (("content", 0.002), ("style", 0.015)):  # 0.0006 and 0.007 in truth
        assert torch.equal(found.lengths[name], stored.lengths[name])
        apart = (found.arrays[name] - stored.arrays[name]).norm() / stored.arrays[name].norm()
        assert apart < most
    expected = losses(packed, stored)
    apart = (losses(online, bare) - expected).abs().max()
    backwards = {**stored.arrays, "content": stored.arrays["content"].flip(2)}
    other = losses(packed, replace(stored, arrays=backwards))
    assert apart < 0.1 * (other - expected).abs().max()


def test_a_loss_with_online_features_does_not_depend_on_company() -> None:
    _, online = models()
    together = losses(online.eval(), batch_of("seed_vc_22k", (0.9, 1.43, 0.05), packed=False))
    apart = [
        losses(online, batch_of("seed_vc_22k", (one,), packed=False)) for one in (0.9, 1.43, 0.05)
    ]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-4, atol=1e-5)


def test_encoders_are_no_part_of_the_model_and_never_train(campplus: Path) -> None:
    style = {"content": "mfcc", "style": "campplus", "campplus": {"checkpoint": str(campplus)}}
    packed, online = models(online=style)
    losses(online.train(), batch_of("seed_vc_22k", (0.9, 1.2), packed=False)).sum().backward()
    assert online.state_dict().keys() == packed.state_dict().keys()
    assert [*dict(online.named_modules())] == [*dict(packed.named_modules())]
    idle = {name for name, parameter in online.named_parameters() if parameter.grad is None}
    assert idle == set(online.unused())
    file = campplus_checkpoint.CampplusFile("model.online.campplus.checkpoint", campplus)
    encoder = campplus_checkpoint.network(file, torch.device("cpu"))
    assert not any(part.training for part in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    torch.testing.assert_close(encoder.state_dict(), torch.load(campplus), rtol=0, atol=0)


def test_loading_encoders_leaves_dropout_and_gradients_as_they_are(campplus: Path) -> None:
    style = {"content": "mfcc", "style": "campplus", "campplus": {"checkpoint": str(campplus)}}
    _, online = models(online=style)
    batch = batch_of("seed_vc_22k", (0.9,), packed=False)
    with torch.inference_mode():
        loading = losses(online, batch)
    again = losses(online, batch)
    assert torch.equal(again, loading)
    again.sum().backward()


def test_online_features_ask_for_audio_and_for_pitch_where_it_conditions() -> None:
    plain, sung = (
        config_of(features="online", f0_condition=with_f0).fields() for with_f0 in (False, True)
    )
    assert [field.member for field in plain] == ["audio"]
    assert [field.member for field in sung] == ["audio", "f0.npy"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"content_channels": 40}, r"content=mfcc gives 39 .* set model\.content_channels=39"),
        ({"style_dim": 191}, r"style=mean_mel gives 192 .* set model\.style_dim=192"),
        (
            {"online": {"content": "whisper", "style": "mean_mel"}},
            r"model\.online\.whisper\.model: not set; write model\.online\.whisper\.model=FOLDER",
        ),
        (
            {"online": {"content": "xlsr", "xlsr": {"model": "nowhere"}}},
            r"model\.online\.xlsr\.model: nowhere is no folder",
        ),
        (
            {"online": {"content": "mfcc", "campplus": {"checkpoint": "nowhere.bin"}}},
            r"model\.online\.campplus\.checkpoint: nowhere\.bin cannot be read",
        ),
    ],
)
def test_what_cannot_be_computed_is_said_before_the_run(changes: dict[str, Any], said: str) -> None:
    batch = BatchConfig(seconds=4, micro_seconds=2)
    plan = Plan(corpus_of((index_of([2.0] * 4), 1)), seed=0, batch=batch)
    with pytest.raises(UserError, match=said):
        config_of(features="online", **changes).check(plan.census)
