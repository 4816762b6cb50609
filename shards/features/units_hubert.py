"""Semantic units of a HuBERT model: k-means over one of its layers.

As in the second iteration of HuBERT (Hsu et al. 2021, arXiv:2106.07447, section IV-B) and in the
unit language models built on it: the frames are clustered as they are, without levelling.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shards.audio import Audio
from shards.clip import Clip
from shards.errors import UserError
from shards.features.hubert import (
    PREPROCESSOR,
    SAMPLE_RATE,
    frames_per_second,
    hidden_states,
    hubert_folder,
    model_up_to,
    normalised,
)
from shards.features.kmeans import Codebook, codebook, gathered, refuse_other_codebook, sampled
from shards.features.model_folder import ModelFolder
from shards.features.sound import long_enough, sound_of
from shards.section import Section

if TYPE_CHECKING:
    from shards.pack.config import PackConfig

CODEBOOK = "units_hubert.npz"
MOST_FRAMES = 200_000
"""Frames that are clustered: 0.6 GB with the 768 dimensions of a base model."""

Floats = NDArray[np.float32]


class HubertConfig(Section):
    """``hubert``: the model of units.hubert."""

    model: str | None = Field(default=None, description="folder of a transformers HuBERT model")
    layer: int = Field(default=9, ge=1, description="the transformer layer that is read")


@dataclass(frozen=True)
class HubertUnits:
    """``units.hubert``: int16 [frames] at the model's own rate, mostly 50 Hz."""

    model: ModelFolder
    layer: int
    codebook: Path
    clusters: int
    seed: int

    member: ClassVar[str] = "semantic.npy"
    needs_text: ClassVar[bool] = False
    needs_audio: ClassVar[bool] = True

    @classmethod
    def configured(cls, config: PackConfig, out: Path) -> HubertUnits:
        """UserError without a model, for a layer it lacks, or for a codebook of another model."""
        model = hubert_folder("hubert.model", config.hubert.model, "a transformers HuBERT model")
        layers = model.number("num_hidden_layers")
        if config.hubert.layer > layers:
            raise UserError(
                f"hubert.layer: {config.hubert.layer} is more than the {layers} layers of "
                f"{model.path}; write a layer from 1 to {layers}"
            )
        frames_per_second(model)
        made = cls(model, config.hubert.layer, out / CODEBOOK, config.units.clusters, config.seed)
        refuse_other_codebook(made.codebook, made.origin)
        return made

    @property
    def origin(self) -> str:
        """What the codebook is of: the layer, and the weights by their fingerprint."""
        return f"layer {self.layer} of the HuBERT weights {self.model.fingerprint}"

    def frames(self, audio: Audio) -> Floats:
        """[frames, hidden]; ValueError for audio that is too short."""
        import torch

        samples = long_enough(audio).at(SAMPLE_RATE).samples
        if _is_normalised(self.model):
            samples = normalised(torch.from_numpy(samples)).numpy()
        return hidden_states(model_up_to(self.model, self.layer), samples)

    def fit(self, frames: Sequence[Floats]) -> None:
        """Cluster ``frames``, at most MOST_FRAMES of them taken at random."""
        every = gathered(sampled(frames, MOST_FRAMES, self.seed), self.clusters)
        scale = np.ones(every.shape[1], np.float32)
        fitted = Codebook.fit(
            every, scale, origin=self.origin, clusters=self.clusters, seed=self.seed
        )
        fitted.save(self.codebook)

    def compute(self, clip: Clip) -> NDArray[Any]:
        """Units of the clip's audio; ValueError for audio that is too short."""
        frames = self.frames(sound_of(clip))
        return codebook(self.codebook, self.origin).assign(frames)

    def about(self) -> dict[str, Any]:
        """Rate, codebook file and model."""
        return {
            "feature": "units.hubert",
            "codebook": self.codebook.name,
            "per_second": frames_per_second(self.model),
            "layer": self.layer,
            "model": self.model.about(),
        }


@cache
def _is_normalised(model: ModelFolder) -> bool:
    """Whether the model was trained on `normalised` audio."""
    path = model.path / PREPROCESSOR
    if not path.is_file():
        return False
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")).get("do_normalize", True))
    except (ValueError, AttributeError) as error:
        raise UserError(f"hubert.model: {path} is not JSON ({error}); copy it anew") from error
