"""The colour of a clip's voice without any model: mean and deviation of its spectrum.

For runs of Seed-VC without the weights of a speaker encoder. It is no speaker embedding: the
channel is in it too, and two speakers may come out alike.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from shards.clip import Clip
from shards.features.mel_spectrogram import MelParameters, mel_spectrogram
from shards.features.sound import sound_of

if TYPE_CHECKING:
    from shards.audio import Audio
    from shards.pack.config import PackConfig

SPECTRUM = MelParameters(sample_rate=22_050, n_fft=1024, hop=256, n_mels=96, epsilon=1e-9)
"""Half as many bands as Seed-VC's style has numbers, whatever the model's own spectrogram."""


@dataclass(frozen=True)
class MeanMelStyle:
    """``style.mean_mel``: float32 [192], of the whole clip."""

    member: ClassVar[str] = "style.npy"
    needs_text: ClassVar[bool] = False
    needs_audio: ClassVar[bool] = True

    @classmethod
    def configured(cls, config: PackConfig, out: Path) -> MeanMelStyle:
        """It has no options."""
        return cls()

    def compute(self, clip: Clip) -> NDArray[Any]:
        """The summary of the clip's audio; ValueError for audio that is too short."""
        return mean_mel(sound_of(clip))

    def about(self) -> dict[str, Any]:
        """The spectrum that is summed up."""
        return {"feature": "style.mean_mel", **asdict(SPECTRUM)}


def mean_mel(audio: Audio) -> NDArray[np.float32]:
    """float32 [192]: 96 means over time of the log bands, then 96 standard deviations.

    The mean of all bands is taken off the means, which takes out the level of the recording.
    """
    import torch

    samples = torch.from_numpy(audio.at(SPECTRUM.sample_rate).samples)
    logs = mel_spectrogram(samples, SPECTRUM)
    means = logs.mean(-1)
    summary = torch.cat([means - means.mean(), logs.std(-1, unbiased=False)])
    found: NDArray[np.float32] = summary.numpy()
    return found
