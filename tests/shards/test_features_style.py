"""One vector of voice per clip: of CAM++ with weights from a file, or of the spectrum alone."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from safetensors.torch import save_file
from tiny_models import clip_of, noise

from shards.audio import Audio
from shards.errors import UserError
from shards.features.campplus import CamPlusPlus
from shards.features.feature import Feature
from shards.features.mel_spectrogram import mel_spectrogram
from shards.features.registry import features_named
from shards.features.style_mean_mel import SPECTRUM
from shards.pack.config import PackConfig

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def model() -> CamPlusPlus:
    torch.manual_seed(0)
    return CamPlusPlus().eval()


def style_of(checkpoint: Path) -> Feature:
    config = PackConfig.model_validate({"campplus": {"checkpoint": str(checkpoint)}})
    (feature,) = features_named(["style.campplus"], config, checkpoint.parent)
    return feature


def saved(path: Path, weights: Weights) -> Path:
    torch.save(weights, path)
    return path


def directly(model: CamPlusPlus, audio: Audio) -> np.ndarray:
    frames = torchaudio.compliance.kaldi.fbank(
        torch.from_numpy(audio.samples)[None],
        num_mel_bins=80,
        dither=0,
        sample_frequency=audio.sample_rate,
    )
    with torch.no_grad():
        return model((frames - frames.mean(0))[None], torch.tensor([len(frames)]))[0].numpy()


def test_campplus_sees_the_filter_bank_of_the_whole_clip(
    model: CamPlusPlus, tmp_path: Path
) -> None:
    feature = style_of(saved(tmp_path / "campplus.bin", model.state_dict()))
    style = pickle.loads(pickle.dumps(feature)).compute(clip_of(noise(2.5)))
    assert style.shape == (192,) and style.dtype == np.float32
    np.testing.assert_allclose(style, directly(model, noise(2.5)), atol=1e-5)
    slower = noise(2.5, sample_rate=44_100)
    np.testing.assert_array_equal(
        feature.compute(clip_of(slower)), feature.compute(clip_of(slower.at(16_000)))
    )


def test_the_shortest_audio_has_a_finite_style(model: CamPlusPlus, tmp_path: Path) -> None:
    style = style_of(saved(tmp_path / "c.bin", model.state_dict())).compute(clip_of(noise(0.1)))
    assert style is not None and np.isfinite(style).all()


def test_older_names_and_safetensors_are_the_same_model(model: CamPlusPlus, tmp_path: Path) -> None:
    weights = model.state_dict()
    older = {
        key.replace("dense.", "xvector.dense.", 1) if key.startswith("dense.") else key: value
        for key, value in weights.items()
        if not key.endswith("num_batches_tracked")
    }
    save_file(weights, tmp_path / "a.safetensors")
    features = [
        style_of(saved(tmp_path / "a.bin", weights)),
        style_of(saved(tmp_path / "older.bin", older)),
        style_of(tmp_path / "a.safetensors"),
    ]
    assert len({feature.about()["checkpoint"]["fingerprint"] for feature in features}) == 1
    styles = [feature.compute(clip_of(noise())) for feature in features]
    assert styles[0] is not None and styles[1] is not None and styles[2] is not None
    assert np.array_equal(styles[0], styles[1]) and np.array_equal(styles[0], styles[2])


def test_a_checkpoint_that_is_not_set_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"campplus\.checkpoint: not set; write .*=FILE"):
        features_named(["style.campplus"], PackConfig(), tmp_path)


@pytest.mark.parametrize("name", ["nowhere.bin", "nowhere.safetensors"])
def test_a_missing_file_is_a_user_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"campplus\.checkpoint: .*nowhere.* cannot be read"):
        style_of(tmp_path / name)


@pytest.mark.parametrize("name", ["torn.bin", "torn.safetensors"])
def test_a_damaged_file_is_a_user_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no weights at all")
    with pytest.raises(UserError, match=r"torn.* is damaged or no file of weights"):
        style_of(tmp_path / name)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"head.conv1.weight": None}, r"lacks head\.conv1\.weight"),
        (
            {"dense.linear.weight": torch.zeros(512, 1024, 1)},
            r"dense\.linear\.weight \[512, 1024, 1\]",
        ),
        ({"classifier.weight": torch.zeros(3)}, r"has a classifier\.weight \[3\]"),
    ],
)
def test_weights_of_another_network_are_a_user_error(
    model: CamPlusPlus, tmp_path: Path, changes: dict[str, torch.Tensor | None], said: str
) -> None:
    weights = {**model.state_dict(), **changes}
    path = saved(tmp_path / "x.bin", {k: v for k, v in weights.items() if v is not None})
    with pytest.raises(UserError, match=rf"x\.bin .*{said}.*; give campplus_cn_common"):
        style_of(path)


def test_what_is_no_dictionary_of_tensors_is_a_user_error(tmp_path: Path) -> None:
    torch.save({"state": {"a": 1}}, tmp_path / "x.bin")
    with pytest.raises(UserError, match=r"x\.bin is no dictionary of tensors"):
        style_of(tmp_path / "x.bin")


def test_the_index_learns_the_weights(model: CamPlusPlus, tmp_path: Path) -> None:
    about = style_of(saved(tmp_path / "c.bin", model.state_dict())).about()
    assert json.loads(json.dumps(about)) == about
    assert about["checkpoint"]["name"] == "c.bin"


def mean_mel_of(audio: Audio) -> np.ndarray:
    (feature,) = features_named(["style.mean_mel"], PackConfig(), Path())
    style = feature.compute(clip_of(audio))
    assert style is not None
    return style


def test_mean_mel_is_mean_and_deviation_of_96_bands() -> None:
    audio = noise(1.0, sample_rate=22_050)
    style = mean_mel_of(audio)
    logs = mel_spectrogram(torch.from_numpy(audio.samples), SPECTRUM).numpy()
    assert style.shape == (192,) and style.dtype == np.float32
    np.testing.assert_allclose(style[:96], logs.mean(1) - logs.mean(), atol=1e-4)
    np.testing.assert_allclose(style[96:], logs.std(1), atol=1e-4)


def test_mean_mel_does_not_hear_the_level() -> None:
    audio = noise(1.0, sample_rate=22_050)
    louder = Audio(audio.samples * np.float32(3), audio.sample_rate)
    np.testing.assert_allclose(mean_mel_of(audio), mean_mel_of(louder), atol=1e-3)


@pytest.mark.parametrize("seconds", [0.1, 0.5])
def test_mean_mel_of_silence_is_finite(seconds: float) -> None:
    silence = Audio(np.zeros(round(seconds * 16_000), np.float32), 16_000)
    assert np.isfinite(mean_mel_of(silence)).all()


def test_two_styles_are_refused(model: CamPlusPlus, tmp_path: Path) -> None:
    path = saved(tmp_path / "c.bin", model.state_dict())
    config = PackConfig.model_validate({"campplus": {"checkpoint": str(path)}})
    with pytest.raises(UserError, match=r"style\.campplus and style\.mean_mel both write style"):
        features_named(["style.campplus", "style.mean_mel"], config, tmp_path)
