"""Semantic units at 25 Hz: k-means over MFCCs.

The targets of HuBERT's first iteration (Hsu et al. 2021, arXiv:2106.07447, section IV-B): 39
dimensions, 13 MFCCs with first and second differences. Unlike there, frames are averaged to 25 Hz
and the mean of each clip is removed, which takes out most of channel and speaker. Variance is
levelled once for the whole corpus, not per clip: on a clip of a few frames it means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import soxr
import torch
import torchaudio
from numpy.typing import NDArray

from shards.atomic import replacing
from shards.audio import MIN_SECONDS
from shards.errors import UserError

SAMPLE_RATE = 16_000
DIMENSIONS = 39
_FRAMES_PER_UNIT = 4
_INT16_SCALE = 32_768.0
# What numpy.load raises on files that are missing, cut off, or no .npz of plain arrays; entering a
# lone array is an AttributeError in Python 3.10 and a TypeError later.
_UNREADABLE = (OSError, EOFError, KeyError, ValueError, TypeError, AttributeError, BadZipFile)

Floats = NDArray[np.float32]


def mfcc25(audio: Floats, sample_rate: int) -> Floats:
    """[frames, 39] at 25 Hz with zero mean over the clip; frames is floor(25 * seconds) +- 1.

    `audio` is mono [samples] in -1..1. A clip under 0.1 s or of another shape is a ValueError.
    """
    if audio.ndim != 1 or audio.size < round(MIN_SECONDS * sample_rate):
        raise ValueError(
            f"MFCC units need mono audio of at least {MIN_SECONDS} s; "
            f"got shape {audio.shape} at {sample_rate} Hz"
        )
    frames = _mfcc100(_at_16k(audio, sample_rate))
    groups = len(frames) // _FRAMES_PER_UNIT
    averaged = frames[: groups * _FRAMES_PER_UNIT].reshape(groups, _FRAMES_PER_UNIT, -1).mean(1)
    centred: Floats = averaged - averaged.mean(0)
    return centred


def _at_16k(audio: Floats, sample_rate: int) -> Floats:
    if sample_rate == SAMPLE_RATE:
        return audio
    resampled: Floats = soxr.resample(audio, sample_rate, SAMPLE_RATE)
    return resampled


def _mfcc100(audio: Floats) -> Floats:
    """[frames, 39] at 100 Hz: MFCCs, first and second differences."""
    # Kaldi's energies are those of int16 samples; its floor would swallow quiet -1..1 audio.
    wave = torch.from_numpy(audio * np.float32(_INT16_SCALE))[None]
    mfcc = torchaudio.compliance.kaldi.mfcc(
        wave, sample_frequency=SAMPLE_RATE, snip_edges=False, use_energy=False
    ).T
    delta = torchaudio.functional.compute_deltas(mfcc)
    stacked = torch.cat([mfcc, delta, torchaudio.functional.compute_deltas(delta)])
    frames: Floats = stacked.T.numpy()
    return frames


@dataclass(frozen=True, eq=False)
class MfccUnits:
    """A codebook. centroids: float32 [k, 39] in scaled space; scale: float32 [39], divides."""

    centroids: Floats
    scale: Floats

    @classmethod
    def fit(cls, features: Iterable[Floats], *, clusters: int = 200, seed: int = 0) -> MfccUnits:
        """Cluster the frames of `features`, each float32 [frames, 39]; repeatable for a seed.

        All frames are held in memory (156 bytes each): pass a sample of a large corpus. Fewer
        frames than clusters is a UserError.
        """
        frames = np.concatenate([np.empty((0, DIMENSIONS), np.float32), *features])
        if len(frames) < clusters:
            raise UserError(
                f"{clusters} clusters cannot be fitted to {len(frames)} frames of MFCCs; "
                f"give more audio or set the number of clusters to at most {len(frames)}"
            )
        scale = np.maximum(frames.std(0), np.float32(1e-5))
        return cls(_centroids(frames / scale, clusters, seed), scale)

    def assign(self, features: Floats) -> NDArray[np.int16]:
        """The nearest centroid of each frame: [frames, 39] -> int16 [frames]."""
        # |x - c|^2 without |x|^2, which is the same for every centroid.
        distance = (self.centroids**2).sum(1) - 2 * (features / self.scale) @ self.centroids.T
        nearest: NDArray[np.int16] = distance.argmin(1).astype(np.int16)
        return nearest

    def save(self, path: Path) -> None:
        """Write an .npz file, whole or not at all."""
        with replacing(path) as aside, aside.open("wb") as file:
            np.savez(file, centroids=self.centroids, scale=self.scale)

    @classmethod
    def load(cls, path: Path) -> MfccUnits:
        """Read what `save` wrote; another file, or none, is a UserError."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(arrays["centroids"], arrays["scale"])
        except _UNREADABLE as error:
            raise UserError(
                f"{path} holds no MFCC units ({error}); give a file that MfccUnits.save wrote"
            ) from None


def _centroids(frames: Floats, clusters: int, seed: int) -> Floats:
    # scikit-learn takes more than a second to import.
    from sklearn.cluster import MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    means = MiniBatchKMeans(clusters, random_state=seed, n_init=3, batch_size=4096)
    # The order in which threads sum would otherwise show in the last bits.
    with threadpool_limits(limits=1):
        means.fit(frames)
    return np.asarray(means.cluster_centers_, dtype=np.float32)
