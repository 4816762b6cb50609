from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.buckets import bucket_edges
from shards.errors import UserError
from shards.index import ClipRow, Index, write_index
from shards.plan import BatchConfig, Plan, changed_settings


def index_of(seconds: list[float]) -> Index:
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            ClipRow(f"c{n}", "s.tar", 0, 0, (), length, "", "", "", {"phonemes": 1}, {}, "")
            for n, length in enumerate(seconds)
        ]
        write_index(Path(folder), rows, {})
        return Index.open(Path(folder))  # mapped: it outlives its folder


lengths = st.lists(st.floats(min_value=0.25, max_value=54.0, width=32), min_size=1, max_size=200)
batches = st.builds(
    BatchConfig,
    seconds=st.sampled_from([54.0, 108.0, 324.0, 648.0]),
    micro_seconds=st.just(54.0),
    buckets=st.integers(1, 12),
)


@given(lengths, batches, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_every_epoch_holds_each_clip_exactly_once(
    seconds: list[float], batch: BatchConfig, seed: int
) -> None:
    plan = Plan(index_of(seconds), seed=seed, batch=batch)
    for epoch in range(2):
        first = epoch * plan.steps_per_epoch
        steps = list(plan.steps(first, first + plan.steps_per_epoch))
        assert {step.epoch for step in steps} == {epoch}
        seen = Counter(int(row) for step in steps for row in step.rows)
        assert seen == dict.fromkeys(range(len(seconds)), 1)


@given(lengths, batches, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_no_micro_batch_is_over_budget_or_empty_while_clips_remain(
    seconds: list[float], batch: BatchConfig, seed: int
) -> None:
    plan = Plan(index_of(seconds), seed=seed, batch=batch)
    short = 0
    for step in plan.steps(0, plan.steps_per_epoch):
        counted = [micro for micro in step.micro_batches if micro.counted]
        assert len(step.micro_batches) == batch.micro_batches
        assert len(counted) == min(batch.micro_batches, len(step.rows))
        for micro in step.micro_batches:
            padded = len(micro.rows) * plan.index.seconds[micro.rows].max()
            assert 0 < padded <= batch.micro_seconds * (1 + 1e-6)
        short += len(step.rows) < plan.clips_per_micro[step.bucket] * batch.micro_batches
    assert short <= 1


@given(lengths, batches, st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_ranks_share_a_step_without_overlap_and_evenly(
    seconds: list[float], batch: BatchConfig, seed: int
) -> None:
    plan = Plan(index_of(seconds), seed=seed, batch=batch)
    step = plan.step(0)
    for world_size in (n for n in (1, 2, 3, 4, 6, 12) if batch.micro_batches % n == 0):
        shares = [step.of_rank(rank, world_size) for rank in range(world_size)]
        assert {len(share) for share in shares} == {batch.micro_batches // world_size}
        joined = sorted((micro for share in shares for micro in share), key=lambda m: m.index)
        assert joined == list(step.micro_batches)


def test_a_step_is_the_same_whether_others_were_asked_for_before() -> None:
    index = index_of(np.random.default_rng(0).uniform(1, 20, 300).tolist())
    batch = BatchConfig(seconds=80, micro_seconds=20)
    read, fresh = (Plan(index, seed=3, batch=batch) for _ in range(2))
    for step in read.steps(0, 30):
        last = step
    again = fresh.step(29)
    assert [m.rows.tolist() for m in again.micro_batches] == [
        m.rows.tolist() for m in last.micro_batches
    ]


def test_seeds_and_epochs_shuffle_differently() -> None:
    index = index_of([2.0] * 100)
    batch = BatchConfig(seconds=40, micro_seconds=20)
    one, other = Plan(index, seed=1, batch=batch), Plan(index, seed=2, batch=batch)
    assert one.step(0).rows.tolist() != other.step(0).rows.tolist()
    assert one.step(0).rows.tolist() != one.step(one.steps_per_epoch).rows.tolist()


def test_the_order_is_pinned_for_ever() -> None:
    index = index_of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    plan = Plan(index, seed=0, batch=BatchConfig(seconds=14, micro_seconds=7, buckets=3))
    order = [[m.rows.tolist() for m in s.micro_batches if m.counted] for s in plan.steps(0, 8)]
    assert order == [
        [[1], [2]],
        [[0], [3]],
        [[5], [6]],
        [[4]],
        [[0], [2]],
        [[4], [6]],
        [[1], [3]],
        [[5]],
    ]


def test_a_clip_over_the_budget_is_refused_with_its_key_and_the_way_out() -> None:
    with pytest.raises(UserError, match=r"micro_seconds=5 .*\(c1, 7\.50 s\).* data\.max_seconds=5"):
        Plan(index_of([2.0, 7.5]), seed=0, batch=BatchConfig(seconds=10, micro_seconds=5))


def test_length_limits_that_admit_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="admit none of the 1 clips"):
        Plan(
            index_of([2.0]),
            seed=0,
            batch=BatchConfig(seconds=10, micro_seconds=5),
            min_seconds=3.0,
        )


def test_a_step_smaller_than_a_micro_batch_is_refused() -> None:
    with pytest.raises(UserError, match=r"batch\.seconds=5 is less than"):
        _ = BatchConfig(seconds=5, micro_seconds=10).micro_batches


def test_changed_settings_are_named_with_both_values() -> None:
    index = index_of([2.0, 3.0])
    before = Plan(index, seed=0, batch=BatchConfig(seconds=10, micro_seconds=5)).fingerprint
    now = Plan(index, seed=4, batch=BatchConfig(seconds=20, micro_seconds=5)).fingerprint
    assert changed_settings(before, now) == [
        "seed was 0 and is now 4",
        "batch.seconds was 10.0 and is now 20.0",
    ]
    assert changed_settings(now, now) == []


@given(lengths, st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_edges_ascend_to_the_longest_clip(seconds: list[float], buckets: int) -> None:
    edges = bucket_edges(np.array(seconds), buckets)
    assert len(edges) <= buckets
    assert np.all(np.diff(edges) > 0)
    assert edges[-1] == max(seconds)


def test_edges_pad_less_than_quantiles() -> None:
    seconds = np.random.default_rng(0).lognormal(np.log(6), 0.7, 5000).clip(1, 54)
    quantiles = np.quantile(seconds, np.linspace(0, 1, 13)[1:])

    def padded(edges: np.ndarray) -> float:
        return float(edges[np.searchsorted(edges, seconds)].sum())

    assert padded(bucket_edges(seconds, 12)) < padded(quantiles)


@given(lengths, batches)
@settings(max_examples=30, deadline=None)
def test_no_micro_batch_costs_more_than_the_costliest(
    seconds: list[float], batch: BatchConfig
) -> None:
    plan = Plan(index_of(seconds), seed=0, batch=batch)

    def cost(rows: np.ndarray) -> float:
        return len(rows) * float(plan.index.seconds[rows].max())

    costliest = plan.costliest()
    most = max(plan.clips_per_micro[m.bucket] * plan.edges[m.bucket] for m in costliest)
    assert max(plan.index.seconds[m.rows].max() for m in costliest) == max(plan.index.seconds)
    for step in plan.steps(0, plan.steps_per_epoch):
        assert all(cost(micro.rows) <= most * (1 + 1e-6) for micro in step.micro_batches)
