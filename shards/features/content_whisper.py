"""What is said, as Whisper's encoder hears it: the content of most Seed-VC models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shards.clip import Clip
from shards.errors import UserError
from shards.features.model_folder import ModelFolder, Wanted, load_model
from shards.features.sound import sound_of
from shards.section import Section

if TYPE_CHECKING:
    from shards.pack.config import PackConfig

SAMPLE_RATE = 16_000
_PER_SECOND = 50
_SAMPLES_PER_FRAME = SAMPLE_RATE // _PER_SECOND

Floats = NDArray[np.float32]


class WhisperConfig(Section):
    """``whisper``: the model of content.whisper."""

    model: str | None = Field(default=None, description="folder of a transformers Whisper model")


@dataclass(frozen=True)
class WhisperContent:
    """``content.whisper``: float16 [hidden, frames] at 50 Hz, the encoder's last states.

    A clip of L samples at 16 kHz has L // 320 + 1 frames, or L / 320 where it fills its window.
    """

    model: ModelFolder

    member: ClassVar[str] = "content.npy"
    needs_text: ClassVar[bool] = False
    needs_audio: ClassVar[bool] = True

    @classmethod
    def configured(cls, config: PackConfig, out: Path) -> WhisperContent:
        """UserError without a model, or for a folder of another kind."""
        wanted = Wanted("a transformers Whisper model", "whisper", "whatever else came with it")
        model = ModelFolder.opened("whisper.model", config.whisper.model, wanted)
        model.number("num_mel_bins")
        if model.number("max_source_positions") % _PER_SECOND:
            raise UserError(
                f"whisper.model: 'max_source_positions' of the config.json in {model.path} is no "
                f"multiple of {_PER_SECOND}; give the model's own config.json"
            )
        return cls(model)

    def compute(self, clip: Clip) -> NDArray[Any]:
        """The states of the clip's audio; ValueError for audio that is too short."""
        samples = sound_of(clip).at(SAMPLE_RATE).samples
        most = self.model.number("max_source_positions")
        states = [
            encoded(self.model, samples[start : start + most * _SAMPLES_PER_FRAME])[skipped:]
            for start, skipped in windows(len(samples), most)
        ]
        return np.ascontiguousarray(np.concatenate(states).T, np.float16)

    def about(self) -> dict[str, Any]:
        """Rate and model."""
        return {
            "feature": "content.whisper",
            "per_second": _PER_SECOND,
            "model": self.model.about(),
        }


def windows(samples: int, most: int) -> Iterator[tuple[int, int]]:
    """(first sample, frames to leave out) of the windows, ``most`` frames each, over a clip.

    They stand end to end, but the last reaches back, so that it is full too.
    """
    window = most * _SAMPLES_PER_FRAME
    last = max(0, -(-(samples - window) // _SAMPLES_PER_FRAME))
    for first in range(0, last, most):
        yield first * _SAMPLES_PER_FRAME, 0
    yield last * _SAMPLES_PER_FRAME, -last % most


def encoded(folder: ModelFolder, samples: Floats) -> Floats:
    """[samples of one window] -> [frames, hidden]: the window's rest is silence and left out."""
    import torch

    extractor, encoder = _extractor(folder), _encoder(folder)
    features = extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
    with torch.inference_mode():
        states = encoder(features.to(encoder.device)).last_hidden_state[0]
    found: Floats = states[: len(samples) // _SAMPLES_PER_FRAME + 1].cpu().numpy()
    return found


@cache
def _encoder(folder: ModelFolder) -> Any:
    from transformers import WhisperModel

    return load_model(WhisperModel, folder).get_encoder()


@cache
def _extractor(folder: ModelFolder) -> Any:
    """Log-mel frames as every published Whisper takes them."""
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(  # type: ignore[no-untyped-call]
        feature_size=folder.number("num_mel_bins"),
        chunk_length=folder.number("max_source_positions") // _PER_SECOND,
    )
