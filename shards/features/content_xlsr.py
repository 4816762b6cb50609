"""What is said, as the lower layers of XLS-R hear it: the content of Seed-VC's tiny model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shards.clip import Clip
from shards.errors import UserError
from shards.features.hubert import SAMPLE_RATE, frames_per_second, hidden_states
from shards.features.model_folder import ModelFolder, Wanted, load_model
from shards.features.sound import sound_of
from shards.features.units_hubert import normalised
from shards.section import Section

if TYPE_CHECKING:
    from shards.pack.config import PackConfig


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
    needs_text: ClassVar[bool] = False
    needs_audio: ClassVar[bool] = True

    @classmethod
    def configured(cls, config: PackConfig, out: Path) -> XlsrContent:
        """UserError without a model, or for more layers than it has."""
        wanted = Wanted("wav2vec2-xls-r-300m", "wav2vec2", "whatever else came with it")
        model = ModelFolder.opened("xlsr.model", config.xlsr.model, wanted)
        layers = model.number("num_hidden_layers")
        if config.xlsr.layers > layers:
            raise UserError(
                f"xlsr.layers: {config.xlsr.layers} is more than the {layers} layers of "
                f"{model.path}; write a number from 1 to {layers}"
            )
        frames_per_second(model)
        return cls(model, config.xlsr.layers)

    def compute(self, clip: Clip) -> NDArray[Any]:
        """The states of the clip's audio, levelled; ValueError for audio that is too short."""
        samples = normalised(sound_of(clip).at(SAMPLE_RATE).samples)
        states = hidden_states(_shortened(self.model, self.layers), samples)
        return np.ascontiguousarray(states.T, np.float16)

    def about(self) -> dict[str, Any]:
        """Rate, layers and model."""
        return {
            "feature": "content.xlsr",
            "per_second": frames_per_second(self.model),
            "layers": self.layers,
            "model": self.model.about(),
        }


@cache
def _shortened(folder: ModelFolder, layers: int) -> Any:
    from transformers import Wav2Vec2Model

    return load_model(Wav2Vec2Model, folder, num_hidden_layers=layers)
