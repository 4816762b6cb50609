"""What is said, as the lower layers of XLS-R hear it: the content of Seed-VC's tiny model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shards.clip import Clip
from shards.errors import UserError
from shards.features.encoder import encoded_alone
from shards.features.hubert import SAMPLE_RATE, frames_per_second, normalised
from shards.features.model_folder import ModelFolder, Wanted, best_device, load_model
from shards.section import Section

if TYPE_CHECKING:
    import torch

    from shards.pack.config import PackConfig

_SECONDS_AT_ONCE = 60
"""Padded audio of a forward pass: 0.4 GB for the first convolution of XLS-R."""


class XlsrConfig(Section):
    """``xlsr``: the model of content.xlsr."""

    model: str | None = Field(default=None, description="folder of a transformers wav2vec 2.0")
    layers: int = Field(default=12, ge=1, description="transformer layers that are run")


@dataclass(frozen=True)
class XlsrContent:
    """``content.xlsr``: float16 [hidden, frames] at 50 Hz, the last states of a shorter model.

    Seed-VC cuts the layers above off and keeps what stands after the last: a layer norm.
    """

    model: ModelFolder
    layers: int

    member: ClassVar[str] = "content.npy"
    sample_rate: ClassVar[int] = SAMPLE_RATE
    needs_text: ClassVar[bool] = False
    needs_audio: ClassVar[bool] = True

    @classmethod
    def configured(cls, config: PackConfig, out: Path) -> XlsrContent:
        """With the model that ``xlsr`` names."""
        return cls.of(config.xlsr, "xlsr")

    @classmethod
    def of(cls, config: XlsrConfig, section: str) -> XlsrContent:
        """UserError without a model, or for more layers than it has.

        ``section`` is where ``config`` stands.
        """
        wanted = Wanted("wav2vec2-xls-r-300m", "wav2vec2", "whatever else came with it")
        model = ModelFolder.opened(f"{section}.model", config.model, wanted)
        layers = model.number("num_hidden_layers")
        if config.layers > layers:
            raise UserError(
                f"{section}.layers: {config.layers} is more than the {layers} layers of "
                f"{model.path}; write a number from 1 to {layers}"
            )
        frames_per_second(model)
        return cls(model, config.layers)

    @property
    def channels(self) -> int:
        """The width of the model."""
        return self.model.number("hidden_size")

    def compute(self, clip: Clip) -> NDArray[Any]:
        """The states of the clip's audio, levelled; ValueError for audio that is too short."""
        return np.ascontiguousarray(encoded_alone(self, clip, best_device()), np.float16)

    def encoded(self, clips: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """[hidden, frames] of each clip, levelled by itself."""
        model = _shortened(self.model, self.layers, clips[0].device)
        size = _clips_at_once(model, clips)
        groups = [clips[first : first + size] for first in range(0, len(clips), size)]
        return [found for group in groups for found in _states(model, group)]

    def about(self) -> dict[str, Any]:
        """Rate, layers and model."""
        return {
            "feature": "content.xlsr",
            "per_second": frames_per_second(self.model),
            "layers": self.layers,
            "model": self.model.about(),
        }


def _clips_at_once(model: Any, clips: Sequence[torch.Tensor]) -> int:
    if model.config.feat_extract_norm != "layer":
        return 1  # a group norm over time would count the padding in
    longest = max(len(clip) for clip in clips)
    return max(1, _SECONDS_AT_ONCE * SAMPLE_RATE // longest)


def _states(model: Any, clips: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """[hidden, frames] of each; neither attention nor convolutions see the padding."""
    import torch

    waves = [normalised(clip) for clip in clips]
    lengths = torch.tensor([len(wave) for wave in waves], device=waves[0].device)
    padded = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    real = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
    states = model(padded, attention_mask=real.long()).last_hidden_state
    frames = model._get_feat_extract_output_lengths(lengths).tolist()
    return [found[:count].T for found, count in zip(states, frames, strict=True)]


@cache
def _shortened(folder: ModelFolder, layers: int, device: torch.device) -> Any:
    from transformers import Wav2Vec2Model

    return load_model(Wav2Vec2Model, folder, device, num_hidden_layers=layers)
