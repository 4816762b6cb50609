"""The options of Seed-VC v1 and what it needs of the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pretrain.models.protocol import Family
from pretrain.models.seed_vc.flops import Spans, forward_flops
from pretrain.models.seed_vc.online import OnlineConfig, refuse_other_width
from shards import fields
from shards.census import Census
from shards.corpus import Corpus
from shards.features.mel_spectrogram import PRESETS, MelParameters
from shards.section import Section

if TYPE_CHECKING:
    from pretrain.models.seed_vc.model import SeedVC

ONLINE_RATE = 50
"""Frames a second of content that is computed online, about."""
SeedVCMel = Literal["seed_vc_22k", "seed_vc_22k_hifigan", "seed_vc_44k"]


class WaveNetConfig(Section):
    """``model.wavenet``: the head's dilated convolutions, as wide as the transformer."""

    layers: int = Field(default=8, ge=1)
    kernel_size: int = Field(default=5, ge=1, description="odd")
    dilation_rate: int = Field(default=1, ge=1, description="layer i is dilated by its i-th power")
    dropout: float = Field(default=0.2, ge=0, lt=1)

    @model_validator(mode="after")
    def _odd(self) -> WaveNetConfig:
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={self.kernel_size} must be odd")
        return self


class SeedVCConfig(Family):
    """``model``: the defaults are upstream's small preset with the wavenet head (98.2 M + 4.9 M
    parameters)."""

    unit: ClassVar[Literal["tokens", "clips"]] = "clips"

    name: Literal["seed_vc"] = "seed_vc"
    mel: SeedVCMel = Field(default="seed_vc_22k", description="sample rate, hop and mel channels")
    hidden_dim: int = Field(default=512, ge=2)
    head: int = Field(default=8, ge=1, description="attention heads")
    n_layer: int = Field(default=13, ge=1)
    features: Literal["packed", "online"] = Field(
        default="packed", description="where content and style come from: members, or the audio"
    )
    online: OnlineConfig = OnlineConfig()
    content_channels: int = Field(default=768, ge=1, description="of content.npy")
    content_dim: int = Field(default=512, ge=1, description="the length regulator's channels")
    content_codebook: int = Field(
        default=2048, ge=1, description="rows of an embedding that only checkpoints need"
    )
    style_dim: int = Field(default=192, ge=1, description="length of style.npy")
    head_type: Literal["wavenet", "mlp"] = "wavenet"
    wavenet: WaveNetConfig = WaveNetConfig()
    time_as_token: bool = Field(default=False, description="instead of scaling in every layer")
    style_as_token: bool = Field(default=False, description="instead of beside every frame")
    long_skip: bool = Field(default=True, description="the noised mel also enters the head")
    uvit_skip: bool = Field(default=True, description="early layers also enter late ones")
    f0_condition: bool = False
    n_f0_bins: int = Field(default=256, ge=3)
    class_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="how often prompt, content and style are left out"
    )
    dropout_per: Literal["sample", "batch"] = Field(
        default="sample", description="what class_dropout is drawn for; upstream: batch"
    )
    prompt_dropout: float = Field(default=0.1, ge=0, le=1, description="how often without prompt")
    time_sampling: Literal["uniform", "logit_normal"] = "uniform"
    loss: Literal["l1", "l2"] = "l1"
    sampling_steps: int = Field(default=10, ge=1, description="of Euler's method, in previews")
    guidance: float = Field(
        default=0.7, ge=0, description="how far previews go beyond what conditions ask; 0: none"
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> SeedVCConfig:
        if self.hidden_dim % (2 * self.head):
            raise ValueError(
                f"hidden_dim={self.hidden_dim} must be a multiple of twice head={self.head}"
            )
        return self

    @property
    def mel_parameters(self) -> MelParameters:
        """Sample rate, hop and channels of the spectrogram."""
        return PRESETS[self.mel]

    @property
    def n_mels(self) -> int:
        """Channels of the spectrogram."""
        return self.mel_parameters.n_mels

    def fields(self) -> tuple[fields.Field, ...]:
        """Audio [L], content [content_channels, S], style [style_dim], F0 in Hz [F], 0: unvoiced.

        ``content_alt.npy`` [content_channels, S'] is the content of the same clip in another
        timbre; a clip without it takes its content. With online features content and style come
        from the audio; F0 is packed always, because WORLD computes it on the host alone.
        """
        rate = self.mel_parameters.sample_rate
        audio = fields.Field("audio", pad=0, dtype="float32", sample_rate=rate)
        channels = (("model.content_channels", self.content_channels), None)
        style = (("model.style_dim", self.style_dim),)
        packed = (
            fields.Field("content.npy", 0, "float32", shape=channels),
            fields.Field("content_alt.npy", 0, "float32", required=False, shape=channels),
            fields.Field("style.npy", 0, "float32", shape=style),
        )
        f0 = fields.Field("f0.npy", 0, "float32", shape=(None,))
        return (
            audio,
            *(packed if self.features == "packed" else ()),
            *((f0,) if self.f0_condition else ()),
        )

    def targets(self, corpus: Corpus, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """One per clip: its loss is a mean over its frames."""
        return np.ones(len(rows), dtype=np.int64)

    def flops(
        self, corpus: Corpus, rows: npt.NDArray[np.int64]
    ) -> Mapping[str, npt.NDArray[np.float64]]:
        """As `Counted`; encoders of online features are no part of the model and not counted."""
        mel = self.mel_parameters
        seconds = corpus.seconds(rows)
        content = ONLINE_RATE * seconds
        other = 0 * seconds
        if self.features == "packed":
            content = corpus.gather("content", rows)
            other = corpus.gather("content_alt", rows) if corpus.has("content_alt") else other
        return forward_flops(self, Spans(seconds * mel.sample_rate // mel.hop, content, other))

    def check(self, census: Census) -> None:
        """UserError if clips lack a member or a frame, or where online features will not do."""
        if self.features == "online":
            refuse_other_width(self.online, self.content_channels, self.style_dim)
        fields.require(census, self.fields(), self.name)
        mel = self.mel_parameters
        fields.refuse_shorter(census, 2 * mel.hop / mel.sample_rate, self.name)

    def build(self) -> SeedVC:
        """A freshly initialised model (imports torch)."""
        from pretrain.models.seed_vc.model import SeedVC

        return SeedVC(self)
