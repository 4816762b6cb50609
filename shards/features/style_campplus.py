"""The voice of a clip as Seed-VC is conditioned on it: one embedding of CAM++."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shards.clip import Clip
from shards.errors import UserError
from shards.features import campplus_checkpoint
from shards.features.sound import sound_of
from shards.section import Section

if TYPE_CHECKING:
    import torch

    from shards.pack.config import PackConfig

SAMPLE_RATE = 16_000
_MEL_BINS = 80


class CampplusConfig(Section):
    """``campplus``: the model of style.campplus."""

    checkpoint: str | None = Field(
        default=None, description="a file such as campplus_cn_common.bin"
    )


@dataclass(frozen=True)
class CampplusStyle:
    """``style.campplus``: float32 [192], of the whole clip."""

    checkpoint: Path

    member: ClassVar[str] = "style.npy"
    needs_text: ClassVar[bool] = False
    needs_audio: ClassVar[bool] = True

    @classmethod
    def configured(cls, config: PackConfig, out: Path) -> CampplusStyle:
        """UserError without a file, or for one that is not of CAM++."""
        chosen, option = config.campplus.checkpoint, campplus_checkpoint.OPTION
        if not chosen:
            raise UserError(
                f"{option}: not set; write {option}=FILE with the weights of CAM++ "
                "(campplus_cn_common.bin), or take style.mean_mel, which needs none"
            )
        checkpoint = Path(chosen).expanduser()
        campplus_checkpoint.read_weights(checkpoint)
        return cls(checkpoint)

    def compute(self, clip: Clip) -> NDArray[Any]:
        """The embedding of the clip's audio; ValueError for audio that is too short."""
        import torch

        model = campplus_checkpoint.network(self.checkpoint)
        frames = filter_bank(sound_of(clip).at(SAMPLE_RATE).samples)
        with torch.inference_mode():
            style = model(frames[None].to(next(model.parameters()).device))[0]
        found: NDArray[np.float32] = style.cpu().numpy()
        return found

    def about(self) -> dict[str, Any]:
        """The weights, by name and fingerprint."""
        return {
            "feature": "style.campplus",
            "checkpoint": {
                "name": self.checkpoint.name,
                "fingerprint": campplus_checkpoint.fingerprint(self.checkpoint),
            },
        }


def filter_bank(samples: NDArray[np.float32]) -> torch.Tensor:
    """16 kHz [samples] in -1..1 -> [frames at 100 Hz, 80], Kaldi's log filter bank, mean-free.

    Undithered, with 25 ms windows that lie wholly inside; the mean of each bin is that of the clip.
    """
    import torch
    import torchaudio

    frames: torch.Tensor = torchaudio.compliance.kaldi.fbank(
        torch.from_numpy(samples)[None],
        num_mel_bins=_MEL_BINS,
        dither=0.0,
        sample_frequency=SAMPLE_RATE,
    )
    return frames - frames.mean(0, keepdim=True)
