from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from indexes import lognormal

from shards.buckets import bin_uppers, bucket_edges, edges_of
from shards.cost import Cost

lengths = st.lists(st.floats(min_value=0.25, max_value=54.0, width=32), min_size=1, max_size=200)


@given(lengths, st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_edges_ascend_to_the_longest_clip(seconds: list[float], buckets: int) -> None:
    edges = edges_of(np.array(seconds), buckets)
    assert len(edges) <= buckets
    assert np.all(np.diff(edges) > 0)
    assert edges[-1] == max(seconds)


def padded(edges: np.ndarray, seconds: np.ndarray, cost: Cost) -> float:
    return float(cost.of(edges.astype(float))[np.searchsorted(edges, seconds)].sum())


def test_edges_pad_less_than_quantiles_and_less_than_any_neighbouring_cut() -> None:
    seconds = lognormal(5000)
    quantiles = np.quantile(seconds, np.linspace(0, 1, 13)[1:])
    edges = edges_of(seconds, 12)
    best = padded(edges, seconds, Cost())
    assert best < 0.95 * padded(quantiles, seconds, Cost())
    for number in range(11):
        for shift in (-0.3, 0.3):
            moved = edges.copy()
            moved[number] += shift
            assert best <= padded(np.sort(moved), seconds, Cost()) * 1.001


def test_an_attention_term_cuts_long_clips_finer() -> None:
    seconds = lognormal(5000)
    uppers = bin_uppers(float(seconds.min()), float(seconds.max()))
    counts = np.bincount(np.searchsorted(uppers, seconds), minlength=len(uppers))
    plain, quadratic = (bucket_edges(uppers, counts, 8, Cost(attention=a)) for a in (None, 5.0))
    assert np.sum(quadratic > 15) > np.sum(plain > 15)
    assert padded(quadratic, seconds, Cost(attention=5.0)) < padded(
        plain, seconds, Cost(attention=5.0)
    )
