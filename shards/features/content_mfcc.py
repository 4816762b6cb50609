"""What is said, without any model: MFCCs at the rate of Seed-VC's content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from shards.clip import Clip
from shards.features.encoder import encoded_alone
from shards.features.mfcc import DIMENSIONS, SAMPLE_RATE, mfcc

if TYPE_CHECKING:
    import torch

    from shards.pack.config import PackConfig

_PER_SECOND = 50


@dataclass(frozen=True)
class MfccContent:
    """``content.mfcc``: float16 [39, frames] at 50 Hz, zero mean over the clip.

    Unlike a speech model's content it still tells much of who speaks.
    """

    member: ClassVar[str] = "content.npy"
    sample_rate: ClassVar[int] = SAMPLE_RATE
    channels: ClassVar[int] = DIMENSIONS
    needs_text: ClassVar[bool] = False
    needs_audio: ClassVar[bool] = True

    @classmethod
    def configured(cls, config: PackConfig, out: Path) -> MfccContent:
        """It has no options."""
        return cls()

    def compute(self, clip: Clip) -> NDArray[Any]:
        """Frames of the clip's audio; ValueError for audio that is too short."""
        return np.ascontiguousarray(encoded_alone(self, clip), np.float16)

    def encoded(self, clips: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """[39, frames] of each clip."""
        return [mfcc(clip, _PER_SECOND).T for clip in clips]

    def about(self) -> dict[str, Any]:
        """The rate."""
        return {"feature": "content.mfcc", "per_second": _PER_SECOND}
