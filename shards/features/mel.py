"""The spectrogram that a model works on, computed while packing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shards.clip import Clip
from shards.features.mel_spectrogram import PRESETS, MelPreset, mel_spectrogram
from shards.features.sound import sound_of
from shards.section import Section

if TYPE_CHECKING:
    from shards.pack.config import PackConfig


class MelConfig(Section):
    """``mel``: the spectrogram of the feature mel."""

    preset: MelPreset = Field(default="seed_vc_22k", description="the exact parameters of a model")


@dataclass(frozen=True)
class Mel:
    """``mel``: float16 [n_mels, frames].

    Half precision moves a log value by at most 0.004 (0.03 dB), far less than what 16-bit audio
    or a codec does to quiet bands, and 80 bands in single precision would take more room than the
    audio itself as FLAC.
    """

    preset: MelPreset

    member: ClassVar[str] = "mel.npy"
    needs_text: ClassVar[bool] = False
    needs_audio: ClassVar[bool] = True

    @classmethod
    def configured(cls, config: PackConfig, out: Path) -> Mel:
        """The preset of the configuration."""
        return cls(config.mel.preset)

    def compute(self, clip: Clip) -> NDArray[Any]:
        """The spectrogram of the clip's audio; ValueError for audio that is too short."""
        import torch

        parameters = PRESETS[self.preset]
        samples = sound_of(clip).at(parameters.sample_rate).samples
        mel: NDArray[np.float32] = mel_spectrogram(torch.from_numpy(samples), parameters).numpy()
        return mel.astype(np.float16)

    def about(self) -> dict[str, Any]:
        """The preset and all it stands for."""
        return {"feature": "mel", "preset": self.preset, **asdict(PRESETS[self.preset])}
