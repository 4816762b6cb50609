"""What is said, without any model: MFCCs at the rate of Seed-VC's content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from shards.clip import Clip
from shards.features.mfcc import centred_mfcc
from shards.features.sound import sound_of

if TYPE_CHECKING:
    from shards.pack.config import PackConfig

_PER_SECOND = 50


@dataclass(frozen=True)
class MfccContent:
    """``content.mfcc``: float16 [39, frames] at 50 Hz, zero mean over the clip.

    Unlike a speech model's content it still tells much of who speaks.
    """

    member: ClassVar[str] = "content.npy"
    needs_text: ClassVar[bool] = False
    needs_audio: ClassVar[bool] = True

    @classmethod
    def configured(cls, config: PackConfig, out: Path) -> MfccContent:
        """It has no options."""
        return cls()

    def compute(self, clip: Clip) -> NDArray[Any]:
        """Frames of the clip's audio; ValueError for audio that is too short."""
        frames = centred_mfcc(sound_of(clip), _PER_SECOND)
        return np.ascontiguousarray(frames.T, np.float16)

    def about(self) -> dict[str, Any]:
        """The rate."""
        return {"feature": "content.mfcc", "per_second": _PER_SECOND}
