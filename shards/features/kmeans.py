"""Codebooks fitted by k-means: frames of features become units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shards.atomic import replacing
from shards.errors import UserError
from shards.section import Section

# What numpy.load raises on files that are missing, cut off, or no .npz of plain arrays; entering a
# lone array is an AttributeError in Python 3.10 and a TypeError later.
_UNREADABLE = (OSError, EOFError, KeyError, ValueError, TypeError, AttributeError, BadZipFile)

Floats = NDArray[np.float32]


class UnitsConfig(Section):
    """``units``: k-means units of units.mfcc and units.hubert."""

    clusters: int = Field(default=200, ge=2, le=32767, description="how many units")


@dataclass(frozen=True, eq=False)
class Codebook:
    """centroids: float32 [k, d] in scaled space; scale: float32 [d], divides.

    ``origin`` says what the frames are that it was fitted to: only such frames can be assigned.
    """

    centroids: Floats
    scale: Floats
    origin: str

    @classmethod
    def fit(
        cls, frames: Floats, scale: Floats, *, origin: str, clusters: int, seed: int
    ) -> Codebook:
        """Cluster ``frames`` [n, d], at least ``clusters`` of them; repeatable for a seed."""
        return cls(_centroids(frames / scale, clusters, seed), scale, origin)

    def assign(self, frames: Floats) -> NDArray[np.int16]:
        """The nearest centroid of each frame: [frames, d] -> int16 [frames]."""
        # |x - c|^2 without |x|^2, which is the same for every centroid.
        distance = (self.centroids**2).sum(1) - 2 * (frames / self.scale) @ self.centroids.T
        nearest: NDArray[np.int16] = distance.argmin(1).astype(np.int16)
        return nearest

    def save(self, path: Path) -> None:
        """Write an .npz file, whole or not at all; the same codebook is the same bytes."""
        with replacing(path) as aside, aside.open("wb") as file:
            np.savez(file, centroids=self.centroids, scale=self.scale, origin=self.origin)

    @classmethod
    def load(cls, path: Path, origin: str) -> Codebook:
        """Read what `save` wrote; UserError for another file, none, or one of another origin."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = cls(arrays["centroids"], arrays["scale"], str(arrays["origin"]))
        except _UNREADABLE as error:
            raise UserError(
                f"{path} holds no codebook of units ({error}); delete it and pack again"
            ) from None
        if found.origin != origin:
            raise UserError(
                f"{path} was fitted to {found.origin} and cannot name units of {origin}; "
                "choose an empty folder to fit another"
            )
        return found


def gathered(frames: Sequence[Floats], clusters: int) -> Floats:
    """All frames in one array [n, d]; UserError if there are fewer than ``clusters``."""
    count = sum(map(len, frames))
    if count < clusters:
        raise UserError(
            f"units.clusters: {clusters} clusters cannot be fitted to {count} frames; "
            f"give more audio or set units.clusters to at most {count}"
        )
    # Sums, and so the last bits of centroids, depend on how an array lies in memory.
    return np.ascontiguousarray(np.concatenate(frames))


def sampled(frames: Sequence[Floats], most: int, seed: int) -> list[Floats]:
    """``frames`` thinned out at random to ``most`` rows in all; the same rows for a seed."""
    edges = np.cumsum([0, *map(len, frames)])
    if edges[-1] <= most:
        return list(frames)
    rows = np.random.default_rng(seed).choice(edges[-1], most, replace=False)
    rows.sort()
    cuts = np.searchsorted(rows, edges)
    return [
        array[rows[first:last] - edge]
        for array, edge, first, last in zip(frames, edges, cuts, cuts[1:], strict=False)
    ]


@cache
def codebook(path: Path, origin: str) -> Codebook:
    """`Codebook.load`, once per process."""
    return Codebook.load(path, origin)


def refuse_other_codebook(path: Path, origin: str) -> None:
    """UserError if there is a codebook at ``path`` already and it will not do."""
    if path.is_file():
        Codebook.load(path, origin)


def _centroids(frames: Floats, clusters: int, seed: int) -> Floats:
    # scikit-learn takes more than a second to import.
    from sklearn.cluster import MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    means = MiniBatchKMeans(clusters, random_state=seed, n_init=3, batch_size=4096)
    # The order in which threads sum would otherwise show in the last bits.
    with threadpool_limits(limits=1):
        means.fit(frames)
    return np.asarray(means.cluster_centers_, dtype=np.float32)
