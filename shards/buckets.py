"""Length buckets: where to cut the range of clip lengths so that padding is least."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shards.cost import Cost

BINS = 480
"""Equal bins of the length range: 0.11 s for clips of 1 to 54 s."""


def bin_uppers(shortest: float, longest: float) -> npt.NDArray[np.float32]:
    """The ascending upper ends of the histogram's bins, [<= BINS]; the last is ``longest``."""
    uppers = np.linspace(shortest, longest, BINS + 1)[1:].astype(np.float32)
    uppers[-1] = longest
    return np.unique(uppers)


def bucket_edges(
    uppers: npt.NDArray[np.float32],
    counts: npt.NDArray[np.int64],
    buckets: int,
    cost: Cost | None = None,
) -> npt.NDArray[np.float32]:
    """The upper edges of at most ``buckets`` length buckets that minimise the padded cost.

    ``counts``: clips in each bin that ends at ``uppers``, [bins], not all zero. Returns ascending
    edges [k <= buckets]; the last is the last filled bin's end. The cuts between bins are chosen
    by dynamic programming over
    cost(i, j) = clips in bins i..j * cost of a clip as long as bin j's end,
    the recurrence of optimal one-dimensional histogram segmentation.
    """
    filled = counts > 0
    ends = uppers[filled]
    prices = (cost or Cost()).of(ends.astype(np.float64))
    return ends[_cheapest_cuts(prices, counts[filled], buckets)]


def edges_of(seconds: npt.NDArray[np.floating], buckets: int) -> npt.NDArray[np.float32]:
    """`bucket_edges` for clip lengths at hand, [clips], at least one."""
    lengths = np.asarray(seconds, dtype=np.float32)
    uppers = bin_uppers(float(lengths.min()), float(lengths.max()))
    counts = np.bincount(np.searchsorted(uppers, lengths), minlength=len(uppers))
    return bucket_edges(uppers, counts, buckets)


def _cheapest_cuts(
    prices: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], buckets: int
) -> list[int]:
    bins = len(prices)
    before = np.concatenate([[0], np.cumsum(counts)])
    # cost[i, j]: bins i..j-1 in one bucket
    cost = (before[None, :] - before[:, None]) * np.concatenate([[0.0], prices])[None, :]
    cost[np.tril_indices(bins + 1)] = np.inf
    best = cost[0].copy()
    best[0] = 0.0
    origins = []
    for _ in range(min(buckets, bins) - 1):
        totals = best[:, None] + cost
        origin = totals.argmin(axis=0)
        improved = totals[origin, np.arange(bins + 1)]
        improved[0] = 0.0
        origins.append(origin)
        best = improved
    cuts = [bins]
    for origin in reversed(origins):
        cuts.append(int(origin[cuts[-1]]))
        if cuts[-1] == 0:
            break
    return [cut - 1 for cut in sorted(set(cuts)) if cut > 0]
