"""Length buckets: where to cut the range of clip lengths so that padding is least."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BINS = 240


def bucket_edges(seconds: npt.NDArray[np.floating], buckets: int) -> npt.NDArray[np.float64]:
    """The upper edges of at most ``buckets`` length buckets that minimise padded seconds.

    ``seconds``: clip lengths, [clips], at least one. Returns ascending edges [k <= buckets];
    the last is the longest clip. Clips are counted in BINS equal bins of the length range and
    the cuts between bins are chosen by dynamic programming over
    cost(i, j) = clips in bins i..j * upper edge of bin j,
    the recurrence of optimal one-dimensional histogram segmentation.
    """
    lengths = np.asarray(seconds, dtype=np.float64)
    longest = float(lengths.max())
    uppers = np.linspace(float(lengths.min()), longest, BINS + 1)[1:]
    uppers[-1] = longest
    counts = np.bincount(np.searchsorted(uppers, lengths), minlength=BINS)
    filled = counts > 0
    return _cheapest_cuts(uppers[filled], counts[filled], buckets)


def _cheapest_cuts(
    uppers: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], buckets: int
) -> npt.NDArray[np.float64]:
    bins = len(uppers)
    before = np.concatenate([[0], np.cumsum(counts)])
    # cost[i, j]: bins i..j-1 in one bucket
    cost = (before[None, :] - before[:, None]) * np.concatenate([[0.0], uppers])[None, :]
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
    return uppers[[cut - 1 for cut in sorted(set(cuts)) if cut > 0]]
