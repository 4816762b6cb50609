"""How much of a batch is padding, with length buckets and without."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shards.buckets import bin_uppers, bucket_edges
from shards.stats.distribution import Parts

BUCKETS = 16

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bucket:
    """Clips longer than the ``edge`` before and no longer than this one, in seconds.

    ``padding`` is the share of a batch that is none of its ``hours``: 1 - seconds / (clips * edge).
    """

    edge: float
    clips: int
    hours: float
    padding: float


@dataclass(frozen=True)
class Padding:
    """The padding of all ``buckets`` together, and ``without`` them: up to the longest clip."""

    buckets: tuple[Bucket, ...]
    overall: float
    without: float


def padding(seconds: Parts, shortest: float, longest: float) -> Padding:
    """What 16 buckets, cut as a run cuts them, give if every clip is padded to its bucket's edge.

    ``seconds`` are read once; ``shortest`` and ``longest`` are the least and largest of them.
    """
    uppers = bin_uppers(shortest, longest)
    counts = np.zeros(len(uppers), dtype=np.int64)
    sums = np.zeros(len(uppers))
    for part in seconds():
        places = np.searchsorted(uppers, part)
        counts += np.bincount(places, minlength=len(uppers))
        sums += np.bincount(places, part, len(uppers))
    edges = bucket_edges(uppers, counts, BUCKETS)
    places = np.searchsorted(edges, uppers).clip(max=len(edges) - 1)
    clips: Numbers = np.bincount(places, counts, len(edges)).astype(np.float64)
    held: Numbers = np.bincount(places, sums, len(edges)).astype(np.float64)
    return _padding(edges.astype(np.float64), clips, held)


def _padding(edges: Numbers, clips: Numbers, held: Numbers) -> Padding:
    """``clips`` and the seconds ``held`` of each bucket, [buckets]."""
    columns = zip(edges.tolist(), clips.tolist(), held.tolist(), strict=True)
    total = float(held.sum())
    return Padding(
        buckets=tuple(
            Bucket(edge, int(count), seconds / 3600, _waste(seconds, count * edge))
            for edge, count, seconds in columns
        ),
        overall=_waste(total, float(clips @ edges)),
        without=_waste(total, float(clips.sum() * edges[-1])),
    )


def _waste(held: float, padded: float) -> float:
    # Sums are rounded: clips of one length would else waste less than nothing.
    return max(0.0, 1 - held / padded) if padded else 0.0
