"""The pitch of a clip, for models of singing."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from shards.audio import Audio
from shards.clip import Clip
from shards.errors import UserError
from shards.features.sound import sound_of

if TYPE_CHECKING:
    from shards.pack.config import PackConfig

SAMPLE_RATE = 16_000
_PER_SECOND = 100
_LOWEST, _HIGHEST = 50.0, 1100.0
"""Hz: from deep speech to high singing."""


@dataclass(frozen=True)
class WorldF0:
    """``f0.pyworld``: float32 [frames] at 100 Hz, in Hz, 0 where there is no voice."""

    member: ClassVar[str] = "f0.npy"
    needs_text: ClassVar[bool] = False
    needs_audio: ClassVar[bool] = True

    @classmethod
    def configured(cls, config: PackConfig, out: Path) -> WorldF0:
        """UserError where the package is not installed."""
        if find_spec("pyworld") is None:
            raise UserError(
                "features: f0.pyworld needs a package that is not installed; "
                "run pip install 'segue-speech[f0]'"
            )
        return cls()

    def compute(self, clip: Clip) -> NDArray[Any]:
        """The pitch of the clip's audio; ValueError for audio that is too short."""
        return fundamental(sound_of(clip))

    def about(self) -> dict[str, Any]:
        """Rate and range."""
        return {
            "feature": "f0.pyworld",
            "per_second": _PER_SECOND,
            "lowest_hz": _LOWEST,
            "highest_hz": _HIGHEST,
        }


def fundamental(audio: Audio) -> NDArray[np.float32]:
    """float32 [floor(100 * seconds) + 1] in Hz: WORLD's DIO, refined by its StoneMask.

    Morise et al. 2016, doi:10.1587/transinf.2015EDP7457. WORLD's Harvest takes 20 times as long.
    """
    import pyworld

    samples = audio.at(SAMPLE_RATE).samples.astype(np.float64)
    coarse, times = pyworld.dio(
        samples,
        SAMPLE_RATE,
        f0_floor=_LOWEST,
        f0_ceil=_HIGHEST,
        frame_period=1000 / _PER_SECOND,
    )
    refined = pyworld.stonemask(samples, coarse, times, SAMPLE_RATE)
    found: NDArray[np.float32] = refined.astype(np.float32)
    return found
