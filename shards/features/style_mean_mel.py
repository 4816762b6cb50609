"""The colour of a clip's voice without any model: mean and deviation of its spectrum.

For runs of Seed-VC without the weights of a speaker encoder. It is no speaker embedding: the
channel is in it too, and two speakers may come out alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from shards.clip import Clip
from shards.features.encoder import encoded_alone
from shards.features.mel_spectrogram import MelParameters, mel_spectrogram

if TYPE_CHECKING:
    import torch

    from shards.pack.config import PackConfig

SPECTRUM = MelParameters(sample_rate=22_050, n_fft=1024, hop=256, n_mels=96, epsilon=1e-9)
"""Half as many bands as Seed-VC's style has numbers, whatever the model's own spectrogram."""


@dataclass(frozen=True)
class MeanMelStyle:
    """``style.mean_mel``: float32 [192], of the whole clip."""

    member: ClassVar[str] = "style.npy"
    sample_rate: ClassVar[int] = SPECTRUM.sample_rate
    channels: ClassVar[int] = 2 * SPECTRUM.n_mels
    needs_text: ClassVar[bool] = False
    needs_audio: ClassVar[bool] = True

    @classmethod
    def configured(cls, config: PackConfig, out: Path) -> MeanMelStyle:
        """It has no options."""
        return cls()

    def compute(self, clip: Clip) -> NDArray[Any]:
        """The summary of the clip's audio; ValueError for audio that is too short."""
        return encoded_alone(self, clip)

    def encoded(self, clips: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """[192] of each clip."""
        return [mean_mel(clip) for clip in clips]

    def about(self) -> dict[str, Any]:
        """The spectrum that is summed up."""
        return {"feature": "style.mean_mel", **asdict(SPECTRUM)}


def mean_mel(samples: torch.Tensor) -> torch.Tensor:
    """22.05 kHz [samples] -> [192]: means over time of 96 log bands, then standard deviations.

    The mean of all bands is taken off the means, which takes the level of the recording out.
    """
    import torch

    logs = mel_spectrogram(samples, SPECTRUM)
    means = logs.mean(-1)
    return torch.cat([means - means.mean(), logs.std(-1, unbiased=False)])
