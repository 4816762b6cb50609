"""What is said at 50 Hz: of Whisper, of XLS-R, or of no model."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import clip_of, noise, save_whisper, save_xlsr
from transformers import (
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperFeatureExtractor,
    WhisperModel,
)

from shards.errors import UserError
from shards.features.feature import Feature
from shards.features.registry import features_named
from shards.index import Index
from shards.pack.config import PackConfig
from shards.pack.job import pack

SECONDS = 2
"""The tiny Whisper's window; 30 in the published ones."""


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WhisperModel]:
    folder = tmp_path_factory.mktemp("whisper")
    return folder, save_whisper(folder, seconds=SECONDS)


@pytest.fixture(scope="module")
def xlsr(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Wav2Vec2Model]:
    folder = tmp_path_factory.mktemp("xlsr")
    return folder, save_xlsr(folder)


def feature_of(name: str, out: Path, **sections: Any) -> Feature:
    (feature,) = features_named([name], PackConfig.model_validate(sections), out)
    return pickle.loads(pickle.dumps(feature))


def whisper_states(model: WhisperModel, samples: np.ndarray) -> np.ndarray:
    """All frames of one window, [hidden, frames]."""
    extractor = WhisperFeatureExtractor(chunk_length=SECONDS)
    mel = extractor(samples, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        return model.encoder(mel).last_hidden_state[0].T.numpy()


@pytest.mark.parametrize(("samples", "frames"), [(16_000, 51), (16_319, 51), (32_000, 100)])
def test_whisper_keeps_the_frames_that_the_audio_reaches(
    whisper: tuple[Path, WhisperModel], tmp_path: Path, samples: int, frames: int
) -> None:
    feature = feature_of("content.whisper", tmp_path, whisper={"model": str(whisper[0])})
    audio = noise(samples / 16_000)
    content = feature.compute(clip_of(audio))
    assert content is not None and content.shape == (24, frames) and content.dtype == np.float16
    expected = whisper_states(whisper[1], audio.samples)[:, :frames]
    np.testing.assert_allclose(content, expected, atol=5e-3)


def test_whisper_hears_longer_audio_in_full_windows(
    whisper: tuple[Path, WhisperModel], tmp_path: Path
) -> None:
    feature = feature_of("content.whisper", tmp_path, whisper={"model": str(whisper[0])})
    samples = noise(4.75).samples
    content = feature.compute(clip_of(noise(4.75)))
    assert content is not None and content.shape == (24, 238)
    first, second = (whisper_states(whisper[1], samples[i : i + 32_000]) for i in (0, 32_000))
    last = whisper_states(whisper[1], samples[138 * 320 :])[:, 62:]
    expected = np.concatenate([first, second, last], axis=1)
    np.testing.assert_allclose(content, expected, atol=5e-3)


@pytest.mark.parametrize("layers", [2, 4])
def test_xlsr_is_cut_off_after_its_first_layers(
    xlsr: tuple[Path, Wav2Vec2Model], tmp_path: Path, layers: int
) -> None:
    chosen = {"model": str(xlsr[0]), "layers": layers}
    content = feature_of("content.xlsr", tmp_path, xlsr=chosen).compute(clip_of(noise()))
    model = Wav2Vec2Model.from_pretrained(xlsr[0]).eval()
    model.encoder.layers = model.encoder.layers[:layers]
    given = Wav2Vec2FeatureExtractor()(
        noise().samples, sampling_rate=16_000, return_tensors="pt"
    ).input_values
    with torch.no_grad():
        expected = model(given).last_hidden_state[0].T.numpy()
    assert content is not None and content.shape == (24, 49) and content.dtype == np.float16
    np.testing.assert_allclose(content, expected, atol=5e-3)


def test_mfccs_come_at_50_hz_without_their_mean(tmp_path: Path) -> None:
    content = feature_of("content.mfcc", tmp_path).compute(clip_of(noise(1.0)))
    assert content is not None and content.shape == (39, 50) and content.dtype == np.float16
    assert np.abs(content.astype(np.float32).mean(1)).max() < 0.01


def test_more_layers_than_there_are_is_a_user_error(
    xlsr: tuple[Path, Wav2Vec2Model], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"xlsr\.layers: 12 is more than the 4 layers"):
        feature_of("content.xlsr", tmp_path, xlsr={"model": str(xlsr[0])})


@pytest.mark.parametrize("name", ["whisper", "xlsr"])
def test_a_model_that_is_not_set_is_asked_for(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"{name}\.model: not set; write {name}\.model=FOLDER"):
        feature_of(f"content.{name}", tmp_path)


def test_the_index_has_lengths_of_content_and_style(tmp_path: Path) -> None:
    import soundfile

    (tmp_path / "in").mkdir()
    for i, seconds in enumerate((1.0, 1.5)):
        soundfile.write(tmp_path / "in" / f"{i}.wav", noise(seconds, seed=i).samples, 16_000)
    config = PackConfig(features=("content.mfcc", "style.mean_mel"))
    pack(tmp_path / "in", tmp_path / "out", config)
    index = Index.open(tmp_path / "out")
    assert sorted(index.table["content"].to_pylist()) == [50, 75]
    assert index.table["style"].to_pylist() == [192, 192]
