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
from shards.features.sound import long_enough, sound_of

if TYPE_CHECKING:
    from shards.pack.config import PackConfig

SAMPLE_RATE = 16_000
CODEBOOK = "units_mfcc.npz"
_ORIGIN = "MFCCs at 25 Hz"
_FRAMES_PER_UNIT = 4
_INT16_SCALE = 32_768.0

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
        return {"feature": "units.mfcc", "codebook": self.codebook.name, "per_second": 25}


def mfcc25(audio: Audio) -> Floats:
    """[frames, 39] at 25 Hz with zero mean over the clip; frames is floor(25 * seconds) +- 1.

    ValueError for a clip under 0.1 s.
    """
    frames = _mfcc100(long_enough(audio).at(SAMPLE_RATE).samples)
    groups = len(frames) // _FRAMES_PER_UNIT
    averaged = frames[: groups * _FRAMES_PER_UNIT].reshape(groups, _FRAMES_PER_UNIT, -1).mean(1)
    centred: Floats = averaged - averaged.mean(0)
    return centred


def _mfcc100(samples: Floats) -> Floats:
    """[frames, 39] at 100 Hz: MFCCs, first and second differences."""
    import torch
    import torchaudio

    # Kaldi's energies are those of int16 samples; its floor would swallow quiet -1..1 audio.
    wave = torch.from_numpy(samples * np.float32(_INT16_SCALE))[None]
    mfcc = torchaudio.compliance.kaldi.mfcc(
        wave, sample_frequency=SAMPLE_RATE, snip_edges=False, use_energy=False
    ).T
    delta = torchaudio.functional.compute_deltas(mfcc)
    stacked = torch.cat([mfcc, delta, torchaudio.functional.compute_deltas(delta)])
    frames: Floats = stacked.T.numpy()
    return frames
