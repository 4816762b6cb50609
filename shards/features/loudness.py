"""Loudness over time: the momentary loudness of ITU-R BS.1770 and EBU Tech 3341."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from shards.audio import Audio
from shards.clip import Clip
from shards.features.sound import sound_of

if TYPE_CHECKING:
    from shards.pack.config import PackConfig

FLOOR = -70.0
_WINDOW_SECONDS, _PER_SECOND = 0.4, 10
_SAMPLE_RATE = 48_000
# BS.1770-5, tables 1 and 2: the two stages of the K-weighting, as b0 b1 b2 1 a1 a2 for 48 kHz.
_K_WEIGHTING = (
    (
        1.53512485958697,
        -2.69169618940638,
        1.19839281085285,
        1.0,
        -1.69065929318241,
        0.73248077421585,
    ),
    (1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621),
)


@dataclass(frozen=True)
class Loudness:
    """``loudness``: float32 [frames], LUFS of 400 ms every 100 ms, at least -70."""

    member: ClassVar[str] = "loudness.npy"
    needs_text: ClassVar[bool] = False
    needs_audio: ClassVar[bool] = True

    @classmethod
    def configured(cls, config: PackConfig, out: Path) -> Loudness:
        """It has no options."""
        return cls()

    def compute(self, clip: Clip) -> NDArray[Any]:
        """Loudness of the clip's audio; ValueError for audio that is too short."""
        return momentary_loudness(sound_of(clip))

    def about(self) -> dict[str, Any]:
        """Rate, window and unit."""
        return {
            "feature": "loudness",
            "per_second": _PER_SECOND,
            "window_seconds": _WINDOW_SECONDS,
            "unit": "LUFS",
        }


def momentary_loudness(audio: Audio) -> NDArray[np.float32]:
    """float32 [frames]: frame i is heard from i / 10 s on for 0.4 s, or to the end if that is all.

    ``-0.691 + 10 log10(mean square)`` of the K-weighted sound; silence is -70.
    """
    from scipy.signal import sosfilt

    weighted = sosfilt(np.array(_K_WEIGHTING), audio.at(_SAMPLE_RATE).samples.astype(np.float64))
    window = min(round(_WINDOW_SECONDS * _SAMPLE_RATE), len(weighted))
    energy = np.concatenate([[0.0], np.cumsum(weighted**2)])
    starts = np.arange(0, len(weighted) - window + 1, _SAMPLE_RATE // _PER_SECOND)
    # A difference of sums can fall below the zero it should be.
    power = np.maximum(energy[starts + window] - energy[starts], 0.0) / window
    with np.errstate(divide="ignore"):
        lufs = -0.691 + 10 * np.log10(power)
    loudness: NDArray[np.float32] = np.maximum(lufs, FLOOR).astype(np.float32)
    return loudness
