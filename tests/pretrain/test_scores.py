"""Scores of clips: means over all of them and over groups, whoever held which."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.best import Best
from pretrain.scores import ALL, ClipSums, merged, scores
from shards.corpus import Corpus, Source
from shards.index import Index


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.integers(1, 5), st.randoms())
def test_who_held_which_clip_changes_no_bit(
    losses: list[float], ranks: int, chance: random.Random
) -> None:
    rows = np.arange(len(losses))
    whole = ClipSums(rows, {"loss": np.array(losses)})
    owners = np.array([chance.randrange(ranks) for _ in rows])
    parts = [
        ClipSums(rows[owners == rank][::-1], {"loss": np.array(losses)[owners == rank][::-1]})
        for rank in range(ranks)
    ]
    together = merged(parts)
    assert together.rows.tolist() == whole.rows.tolist()
    assert together.terms["loss"].tolist() == losses


def test_groups_are_means_over_their_own_targets(token_shards: Path) -> None:
    corpus = Corpus([Source(name, Index.open(token_shards)) for name in ("old", "new")])
    count = len(corpus) // 2
    seconds = corpus.seconds(np.arange(count))
    rows = np.array([*sorted((seconds.argmin(), seconds.argmax())), count + 1, count + 2])
    sums = ClipSums(rows, {"loss": np.array([2.0, 4.0, 9.0, 1.0])})
    found = scores(corpus, sums, np.array([1, 2, 3, 4]))
    assert found[ALL].terms["loss"] == pytest.approx(16 / 10)
    assert found["source/old"].terms["loss"] == pytest.approx(6 / 3)
    assert found["source/new"].terms["loss"] == pytest.approx(10 / 7)
    assert found["source/new"].clips == 2 and found["source/new"].targets == 7
    assert not [name for name in found if name.startswith("language/")]
    bands = {name: score.clips for name, score in found.items() if name.startswith("seconds/")}
    assert sum(bands.values()) == 4 and len(bands) > 1


def test_no_clips_have_no_loss(token_shards: Path) -> None:
    corpus = Corpus([Source("one", Index.open(token_shards))])
    assert scores(corpus, merged([]), np.array([], dtype=np.int64))[ALL].targets == 0


def test_the_best_is_kept_through_a_checkpoint() -> None:
    best = Best()
    for step, loss in ((1, 3.0), (2, 2.0), (3, 2.5), (4, float("nan"))):
        best = best.after(loss, step)
        assert Best.of(best.figures()) == best
    assert (best.loss, best.step, best.since) == (2.0, 2, 2)
    begun = Best().after(1.5, 0).after(2.0, 5)
    assert Best.of(begun.figures()) == begun and begun.since == 1
    assert Best().after(float("nan"), 3).figures() == {}
    assert Best.of({}) == Best()
