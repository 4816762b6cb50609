"""Encoders of sound: what a clip gives does not depend on the clips beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import noise, save_whisper, save_xlsr

from shards.features.campplus import CamPlusPlus
from shards.features.content_mfcc import MfccContent
from shards.features.content_whisper import WhisperConfig, WhisperContent
from shards.features.content_xlsr import XlsrConfig, XlsrContent
from shards.features.encoder import Encoder
from shards.features.style_campplus import CampplusConfig, CampplusStyle
from shards.features.style_mean_mel import MeanMelStyle

SECONDS = (2.53, 0.1, 1.37)
"""The longest takes two of the tiny Whisper's windows and three of CAM++'s segments."""


def whisper(folder: Path) -> Encoder:
    save_whisper(folder, seconds=2)
    return WhisperContent.of(WhisperConfig(model=str(folder)), "whisper")


def xlsr(folder: Path) -> Encoder:
    save_xlsr(folder)
    return XlsrContent.of(XlsrConfig(model=str(folder), layers=2), "xlsr")


def wav2vec2_base(folder: Path) -> Encoder:
    save_xlsr(folder, is_large=False)
    return XlsrContent.of(XlsrConfig(model=str(folder), layers=2), "xlsr")


def campplus(folder: Path) -> Encoder:
    """With statistics that tell padding from silence: fresh ones let zeros pass as zeros."""
    torch.manual_seed(0)
    model = CamPlusPlus()
    for name, values in model.state_dict().items():
        if name.endswith("running_mean"):
            values.normal_(std=0.3)
    torch.save(model.state_dict(), folder / "c.bin")
    return CampplusStyle.of(CampplusConfig(checkpoint=str(folder / "c.bin")), "campplus")


@pytest.mark.parametrize(
    "made",
    [
        whisper,
        xlsr,
        wav2vec2_base,
        campplus,
        lambda _: MfccContent(),
        lambda _: MeanMelStyle(),
    ],
    ids=["whisper", "xlsr", "wav2vec2_base", "campplus", "mfcc", "mean_mel"],
)
@torch.no_grad()
def test_a_clip_gives_the_same_in_any_company(
    made: Callable[[Path], Encoder], tmp_path: Path
) -> None:
    encoder = made(tmp_path)
    clips = [
        torch.from_numpy(noise(seconds, encoder.sample_rate, seed).samples)
        for seed, seconds in enumerate(SECONDS)
    ]
    together = encoder.encoded(clips)
    for found, clip in zip(together, clips, strict=True):
        (alone,) = encoder.encoded([clip])
        assert found.shape == alone.shape and found.shape[0] == encoder.channels
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5 * float(alone.abs().max()))
