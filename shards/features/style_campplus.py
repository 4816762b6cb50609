"""The voice of a clip as Seed-VC is conditioned on it: one embedding of CAM++."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray
from pydantic import Field

from shards.clip import Clip
from shards.features.campplus_checkpoint import CampplusFile, network
from shards.features.encoder import encoded_alone
from shards.features.model_folder import best_device
from shards.section import Section

if TYPE_CHECKING:
    import torch

    from shards.pack.config import PackConfig

SAMPLE_RATE = 16_000
_MEL_BINS = 80
_WINDOW, _HOP = 400, 160


class CampplusConfig(Section):
    """``campplus``: the model of style.campplus."""

    checkpoint: str | None = Field(
        default=None, description="a file such as campplus_cn_common.bin"
    )


@dataclass(frozen=True)
class CampplusStyle:
    """``style.campplus``: float32 [192], of the whole clip."""

    checkpoint: CampplusFile

    member: ClassVar[str] = "style.npy"
    sample_rate: ClassVar[int] = SAMPLE_RATE
    channels: ClassVar[int] = 192
    needs_text: ClassVar[bool] = False
    needs_audio: ClassVar[bool] = True

    @classmethod
    def configured(cls, config: PackConfig, out: Path) -> CampplusStyle:
        """With the file that ``campplus`` names."""
        return cls.of(config.campplus, "campplus")

    @classmethod
    def of(cls, config: CampplusConfig, section: str) -> CampplusStyle:
        """UserError without a file, or for one that is not of CAM++.

        ``section`` is where ``config`` stands.
        """
        return cls(CampplusFile.opened(f"{section}.checkpoint", config.checkpoint))

    def compute(self, clip: Clip) -> NDArray[Any]:
        """The embedding of the clip's audio; ValueError for audio that is too short."""
        return encoded_alone(self, clip, best_device())

    def encoded(self, clips: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """[192] of each clip."""
        frames, lengths = filter_bank(clips)
        return list(network(self.checkpoint, frames.device)(frames, lengths))

    def about(self) -> dict[str, Any]:
        """The weights, by name and fingerprint."""
        return {
            "feature": "style.campplus",
            "checkpoint": {
                "name": self.checkpoint.path.name,
                "fingerprint": self.checkpoint.fingerprint(),
            },
        }


def filter_bank(clips: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """16 kHz clips, [samples] in -1..1 each -> [B, frames at 100 Hz, 80] and frames, int64 [B].

    Kaldi's log filter bank, undithered, with 25 ms windows that lie wholly inside; the mean of each
    bin is that of the clip. What follows a clip's frames is 0.
    """
    import torch
    import torchaudio

    sizes = torch.tensor([len(clip) for clip in clips], device=clips[0].device)
    padded = torch.nn.utils.rnn.pad_sequence(list(clips), batch_first=True)
    hops = -(-padded.shape[1] // _HOP)
    padded = torch.nn.functional.pad(padded, (0, hops * _HOP - padded.shape[1]))
    # End to end, which Kaldi takes for one signal: windows across two clips are none of either's.
    flat = torchaudio.compliance.kaldi.fbank(
        padded.view(1, -1), num_mel_bins=_MEL_BINS, dither=0.0, sample_frequency=SAMPLE_RATE
    )
    flat = torch.nn.functional.pad(flat, (0, 0, 0, len(clips) * hops - len(flat)))
    frames = flat.view(len(clips), hops, _MEL_BINS)
    lengths = (sizes - _WINDOW) // _HOP + 1
    real = (torch.arange(hops, device=sizes.device) < lengths[:, None])[:, :, None]
    means = (frames * real).sum(1, keepdim=True) / lengths[:, None, None]
    return (frames - means) * real, lengths
