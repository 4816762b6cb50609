"""Semantic units at 25 Hz: k-means over MFCCs.

The targets of HuBERT's first iteration (Hsu et al. 2021, arXiv:2106.07447, section IV-B): 39
dimensions, 13 MFCCs with first and second differences. Unlike there, frames are averaged to 25 Hz
and the mean of each clip is removed, which takes out most of channel and speaker. Variance is
levelled once for the whole corpus, not per clip: on a clip of a few frames it means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from shards.audio import Audio
from shards.clip import Clip
from shards.features.kmeans import Codebook, codebook, gathered, refuse_other_codebook
from shards.features.mfcc import centred_mfcc
from shards.features.sound import sound_of

if TYPE_CHECKING:
    from shards.pack.config import PackConfig

CODEBOOK = "units_mfcc.npz"
_ORIGIN = "MFCCs at 25 Hz"
_PER_SECOND = 25

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class MfccUnits:
    """``units.mfcc``: int16 [frames] at 25 Hz, the nearest entry of a codebook in the shards."""

    codebook: Path
    clusters: int
    seed: int

    member: ClassVar[str] = "semantic.npy"
    needs_text: ClassVar[bool] = False
    needs_audio: ClassVar[bool] = True

    @classmethod
    def configured(cls, config: PackConfig, out: Path) -> MfccUnits:
        """UserError for a codebook that is not of MFCCs."""
        refuse_other_codebook(out / CODEBOOK, _ORIGIN)
        return cls(out / CODEBOOK, config.units.clusters, config.seed)

    def frames(self, audio: Audio) -> Floats:
        """[frames, 39]; ValueError for audio that is too short."""
        return mfcc25(audio)

    def fit(self, frames: Sequence[Floats]) -> None:
        """Cluster all of ``frames``, which are held in memory (156 bytes each)."""
        every = gathered(frames, self.clusters)
        scale = np.maximum(every.std(0), np.float32(1e-5))
        fitted = Codebook.fit(every, scale, origin=_ORIGIN, clusters=self.clusters, seed=self.seed)
        fitted.save(self.codebook)

    def compute(self, clip: Clip) -> NDArray[Any]:
        """Units of the clip's audio; ValueError for audio that is too short."""
        frames = mfcc25(sound_of(clip))
        return codebook(self.codebook, _ORIGIN).assign(frames)

    def about(self) -> dict[str, Any]:
        """The codebook's file and rate."""
        return {"feature": "units.mfcc", "codebook": self.codebook.name, "per_second": _PER_SECOND}


def mfcc25(audio: Audio) -> Floats:
    """[frames, 39] at 25 Hz with zero mean over the clip; ValueError for one under 0.1 s."""
    return centred_mfcc(audio, _PER_SECOND)
