from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from indexes import corpus_of, index_of, lognormal

from shards.corpus import Corpus
from shards.curriculum import Limits, StageConfig
from shards.errors import UserError
from shards.index import Index
from shards.plan import BatchConfig, MicroBatch, Origin, Plan, changed_settings


def lengths_of(clips: int, low: float, high: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, clips).astype(np.float32)


indexes = st.builds(
    index_of,
    st.one_of(
        st.lists(st.floats(min_value=0.25, max_value=54.0, width=32), min_size=1, max_size=60),
        st.builds(
            lengths_of,
            st.integers(1, 1500),
            st.sampled_from([0.25, 5.0, 20.0]),
            st.sampled_from([20.0, 30.0, 54.0]),
            st.integers(0, 9),
        ),
    ),
    st.integers(1, 200),
)
batches = st.builds(
    BatchConfig,
    seconds=st.sampled_from([54.0, 108.0, 324.0, 648.0]),
    micro_seconds=st.just(54.0),
    buckets=st.integers(1, 12),
    window=st.sampled_from([1, 16, 4096]),
    attention=st.sampled_from([None, None, 500.0]),
)
seeds = st.integers(0, 5)


def plan_of(index: Index, batch: BatchConfig, seed: int = 0, **options: object) -> Plan:
    if batch.attention is not None:  # the longest clip costs a little more than its seconds
        batch = batch.model_copy(update={"micro_seconds": 60.0, "seconds": batch.seconds * 2})
    return Plan(corpus_of((index, 1)), seed=seed, batch=batch, **options)  # type: ignore[arg-type]


def epoch_of(plan: Plan, epoch: int) -> list[list[MicroBatch]]:
    steps = range(plan.step_at(epoch), plan.step_at(epoch + 1))
    return [list(plan.share(plan.step(step))) for step in steps]


def counted(steps: list[list[MicroBatch]]) -> list[int]:
    return [int(row) for step in steps for micro in step if micro.counted for row in micro.rows]


@given(indexes, batches, seeds)
@settings(max_examples=80, deadline=None)
def test_every_epoch_holds_each_clip_exactly_once(
    index: Index, batch: BatchConfig, seed: int
) -> None:
    plan = plan_of(index, batch, seed)
    for epoch in range(2):
        assert Counter(counted(epoch_of(plan, epoch))) == dict.fromkeys(range(len(index)), 1)


def test_lengths_are_counted_of_the_clips_that_a_run_admits() -> None:
    index = index_of([1.0, 2.0, 2.2, 4.0, 9.0], per_shard=2)
    plan = plan_of(index, BatchConfig(seconds=108, micro_seconds=54), min_seconds=2, max_seconds=5)
    assert plan.census.by_seconds(np.array([0.0, 2.1, 4.0, np.inf])).tolist() == [1, 1, 1]


@given(indexes, batches, seeds)
@settings(max_examples=80, deadline=None)
def test_no_micro_batch_is_over_budget_or_empty_and_only_the_last_step_is_short(
    index: Index, batch: BatchConfig, seed: int
) -> None:
    plan = plan_of(index, batch, seed)
    steps = epoch_of(plan, 0)
    for step in steps:
        assert len(step) == plan.micro_batches
        assert len({micro.bucket for micro in step}) == 1
        for micro in step:
            longest = float(index.seconds[micro.rows].max())
            assert (
                0 < len(micro.rows) * plan.cost.of(longest) <= plan.batch.budget.micro * (1 + 1e-6)
            )
    for step in steps[:-1]:
        assert sum(len(micro.rows) for micro in step) == plan.shape.clips(step[0].bucket)
        assert all(micro.counted for micro in step)
    last = [micro for micro in steps[-1] if micro.counted]
    assert len(last) == min(plan.micro_batches, len(counted(steps[-1:])))


@given(indexes, batches, seeds)
@settings(max_examples=30, deadline=None)
def test_ranks_share_a_step_without_overlap_and_evenly(
    index: Index, batch: BatchConfig, seed: int
) -> None:
    plan = plan_of(index, batch, seed)
    step = plan.step(0)
    whole = [micro.rows.tolist() for micro in plan.share(step)]
    for world_size in (n for n in (1, 2, 3, 4, 6, 8, 12) if plan.micro_batches % n == 0):
        shares = [plan.share(step, rank, world_size) for rank in range(world_size)]
        assert {len(share) for share in shares} == {plan.micro_batches // world_size}
        joined = sorted((micro for share in shares for micro in share), key=lambda m: m.index)
        assert [micro.rows.tolist() for micro in joined] == whole


stages = st.one_of(
    st.builds(
        lambda first, second, step: (
            StageConfig(max_seconds=first),
            StageConfig(from_step=step, max_seconds=second),
        ),
        st.sampled_from([20.0, 25.0, 54.0]),
        st.sampled_from([22.0, 30.0, None]),
        st.integers(1, 40),
    ),
    st.builds(
        lambda step, low, epoch: (
            StageConfig(min_seconds=low),
            StageConfig(from_step=step, max_seconds=25.0),
            StageConfig(from_epoch=epoch),
        ),
        st.integers(1, 60),
        st.sampled_from([0.0, 18.0, 20.0]),
        st.integers(1, 3),
    ),
    st.builds(
        lambda start, ramp, step: (
            StageConfig(max_seconds=start),
            StageConfig(from_step=step, max_seconds=54.0, ramp_steps=ramp),
        ),
        st.sampled_from([20.0, 30.0]),
        st.integers(1, 50),
        st.integers(1, 20),
    ),
)
spread = st.builds(
    lambda clips, seed, per: index_of(
        np.append(lengths_of(clips, 5.0, 54.0, seed), [18.0, 19.0, 21.0, 24.0]), per
    ),
    st.integers(1, 900),
    st.integers(0, 9),
    st.integers(1, 200),
)


def admitted(index: Index, limits: Limits) -> set[int]:
    low, high = np.float32(limits.min_seconds), np.float32(limits.max_seconds)
    return set(np.flatnonzero((index.seconds >= low) & (index.seconds <= high)).tolist())


@given(spread, batches, seeds, stages)
@settings(max_examples=100, deadline=None)
def test_a_curriculum_shows_each_admitted_clip_exactly_once_an_epoch_and_no_other(
    index: Index, batch: BatchConfig, seed: int, curriculum: tuple[StageConfig, ...]
) -> None:
    plan = plan_of(index, batch, seed, curriculum=curriculum)
    for epoch in range(4):
        steps = range(plan.step_at(epoch), plan.step_at(epoch + 1))
        seen: Counter[int] = Counter()
        for step in steps:
            planned = plan.step(step)
            limits = plan.limits.at(epoch, step)
            assert planned.epoch == epoch
            assert planned.segment.limits.stage == limits.stage
            for micro in plan.share(planned):
                seconds = index.seconds[micro.rows]
                assert seconds.min() >= np.float32(limits.min_seconds)
                assert seconds.max() <= np.float32(limits.max_seconds)
                seen.update(micro.rows.tolist() if micro.counted else [])
        # An epoch ends before its last clips where a stage withdraws all of those.
        due = admitted(index, plan.limits.at(epoch, steps[-1]))
        assert due & admitted(index, plan.limits.at(epoch, steps.stop)) <= set(seen)
        assert set(seen.values()) <= {1}


@given(spread, batches, stages, st.integers(0, 120))
@settings(max_examples=40, deadline=None)
def test_a_step_is_the_same_whether_others_were_asked_for_before(
    index: Index, batch: BatchConfig, curriculum: tuple[StageConfig, ...], step: int
) -> None:
    read, fresh = (plan_of(index, batch, 3, curriculum=curriculum) for _ in range(2))
    for planned in read.steps(0, step + 1):
        last = [micro.rows.tolist() for micro in read.share(planned)]
    assert [micro.rows.tolist() for micro in fresh.share(fresh.step(step))] == last


@given(spread, spread, st.sampled_from([0.05, 0.5, 1, 2.5]), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_repeat_factors_hold_over_epochs_and_rotate_through_the_source(
    old: Index, new: Index, repeat: float, seed: int
) -> None:
    corpus = corpus_of((new, 1), (old, repeat))
    plan = Plan(corpus, seed=seed, batch=BatchConfig(seconds=108, micro_seconds=54, window=16))
    period = corpus.sources[1].repeat.denominator
    total: Counter[int] = Counter()
    for epoch in range(period):
        seen = Counter(counted(epoch_of(plan, epoch)))
        assert all(seen[row] == 1 for row in range(len(new)))
        replayed = [seen[len(new) + row] for row in range(len(old))]
        assert max(replayed) <= np.ceil(repeat)
        total.update(seen)
    wanted = {round(repeat * period)}
    assert {total[len(new) + row] for row in range(len(old))} == wanted


def test_sources_are_mixed_in_the_middle_of_an_epoch() -> None:
    corpus = corpus_of((index_of(lognormal(4000)), 1), (index_of(lognormal(4000, seed=1)), 0.5))
    plan = Plan(corpus, seed=0, batch=BatchConfig(seconds=320, micro_seconds=160))
    shares = [
        np.mean([row >= 4000 for row in counted(steps)])
        for steps in np.array_split(np.array(epoch_of(plan, 0), dtype=object), 4)  # quarters
    ]
    assert max(shares) < 0.45 and min(shares) > 0.22


def test_seeds_and_epochs_shuffle_differently() -> None:
    index = index_of([2.0] * 100)
    batch = BatchConfig(seconds=40, micro_seconds=20)
    one, other = (counted(epoch_of(plan_of(index, batch, seed), 0)) for seed in (1, 2))
    assert one != other
    assert one != counted(epoch_of(plan_of(index, batch, 1), 1))


def test_the_order_is_pinned_for_ever() -> None:
    index = index_of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], per_shard=3)
    plan = plan_of(index, BatchConfig(seconds=14, micro_seconds=7, buckets=3))
    small = [[m.rows.tolist() for m in plan.share(s) if m.counted] for s in plan.steps(0, 8)]
    assert small == SMALL_ORDER

    streamed = plan_of(
        index_of(lengths_of(400, 5, 20, 0)),
        BatchConfig(seconds=80, micro_seconds=40, window=8, buckets=3),
    )
    first = [m.rows.tolist() for s in streamed.steps(0, 4) for m in streamed.share(s)]
    assert first == STREAMED_ORDER


SMALL_ORDER = [[[0], [1]], [[2], [3]], [[4], [5]], [[6]], [[2], [3]], [[4], [5]], [[0], [1]], [[6]]]
STREAMED_ORDER = [
    [11, 3, 13, 2],
    [150, 159, 152, 157],
    [10, 12],
    [249, 247],
    [1, 18],
    [166, 165],
    [20, 48, 257, 32],
    [196, 302, 193, 182],
]


def padded_seconds(index: Index, micro: MicroBatch) -> float:
    return len(micro.rows) * float(index.seconds[micro.rows].max())


def test_padding_is_small_and_the_micro_batches_of_a_step_cost_the_same() -> None:
    index = index_of(lognormal(30_000), per_shard=600)
    plan = plan_of(index, BatchConfig(seconds=640, micro_seconds=160))
    steps = epoch_of(plan, 0)
    padded = [[padded_seconds(index, micro) for micro in step] for step in steps]
    assert 1 - index.seconds.sum(dtype=np.float64) / np.sum(padded) < 0.03
    assert np.mean([max(step) / np.mean(step) for step in padded]) < 1.05


def test_the_order_stays_random_though_clips_are_sorted_in_windows() -> None:
    index = index_of(np.sort(lognormal(30_000)), per_shard=600)
    plan = plan_of(index, BatchConfig(seconds=640, micro_seconds=160))
    epochs = [epoch_of(plan, epoch) for epoch in range(2)]
    lengths = [float(index.seconds[micro.rows].mean()) for step in epochs[0] for micro in step]
    ranks = np.argsort(np.argsort(lengths))
    assert abs(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1]) < 0.1
    met = [neighbours(epoch) for epoch in epochs]
    assert len(met[0] & met[1]) / len(met[0]) < 0.1


def neighbours(epoch: list[list[MicroBatch]]) -> set[tuple[int, int]]:
    rows = [np.sort(micro.rows).tolist() for step in epoch for micro in step]
    return {(a, b) for micro in rows for n, a in enumerate(micro) for b in micro[n + 1 :]}


def test_lanes_read_each_shard_in_one_stretch() -> None:
    plan = plan_of(
        index_of(lengths_of(40_000, 5, 6, 0), per_shard=500),
        BatchConfig(seconds=160, micro_seconds=40, buckets=1, window=1000),
    )
    order = [plan.share(step)[2].rows // 500 for step in plan.steps(0, plan.step_at(1) - 1)]
    last = {int(shard): n for n, rows in enumerate(order) for shard in rows}
    first = {int(shard): n for n, rows in reversed(list(enumerate(order))) for shard in rows}
    spans = [last[shard] - first[shard] for shard in first]
    assert max(spans) < 3 * 1000 / len(order[0])  # a shard's clips and the windows they reach into


def test_a_clip_over_the_budget_is_refused_with_its_key_and_the_way_out() -> None:
    with pytest.raises(UserError, match=r"micro_seconds=5 .*\(c1, 7\.50 s\).* data\.max_seconds"):
        plan_of(index_of([2.0, 7.5]), BatchConfig(seconds=10, micro_seconds=5))


def test_length_limits_that_admit_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="admit none of the 1 clips"):
        plan_of(index_of([2.0]), BatchConfig(seconds=10, micro_seconds=5), min_seconds=3.0)


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ((StageConfig(max_seconds=1.0), StageConfig(from_step=5)), r"\[0\]: its limits .* no clip"),
        ((StageConfig(), StageConfig(max_seconds=3.0)), r"\[1\]: it has no beginning"),
        ((StageConfig(from_step=3),), r"\[0\]: the first stage begins at 0"),
        ((StageConfig(), StageConfig(from_step=4, from_epoch=1)), "both given; keep one"),
        (
            (StageConfig(), StageConfig(from_step=9), StageConfig(from_step=9)),
            "begin at 10 or later",
        ),
        ((StageConfig(), StageConfig(from_step=2, ramp_steps=4)), "a ramp needs max_seconds"),
        ((StageConfig(max_seconds=3.0), StageConfig(from_step=2, min_seconds=9)), "no clip"),
        ((StageConfig(min_seconds=5.0, max_seconds=3.0),), "no clip can be that long"),
    ],
)
def test_a_curriculum_that_contradicts_itself_is_one_sentence(
    stages: tuple[StageConfig, ...], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        batch = BatchConfig(seconds=10, micro_seconds=5)
        plan_of(index_of([2.0, 4.0]), batch, curriculum=stages)


def test_a_step_smaller_than_a_micro_batch_is_refused() -> None:
    with pytest.raises(UserError, match=r"batch\.seconds=5 is less than"):
        _ = BatchConfig(seconds=5, micro_seconds=10).micro_batches


def test_a_budget_in_a_models_units_is_kept() -> None:
    index = index_of(lognormal(3000))
    batch = BatchConfig(
        units=16_000, micro_units=8_000, weights={"semantic": 1, "phonemes": 2}, attention=2000
    )
    plan = plan_of(index, batch.model_copy(update={"attention": None}))
    priced = Plan(corpus_of((index, 1)), seed=0, batch=batch)
    assert Counter(counted(epoch_of(priced, 0))) == dict.fromkeys(range(3000), 1)
    for step in epoch_of(priced, 0):
        for micro in step:
            units = (
                index.lengths("semantic")[micro.rows] + 2.0 * index.lengths("phonemes")[micro.rows]
            )
            assert len(units) * (units.max() + units.max() ** 2 / 2000) <= 8000 * (1 + 1e-6)
    assert priced.step_at(1) > plan.step_at(1)


def test_unknown_columns_in_the_weights_are_named() -> None:
    batch = BatchConfig(units=100, micro_units=50, weights={"tokens": 1})
    with pytest.raises(UserError, match=r"has no column tokens; it has seconds, semantic"):
        plan_of(index_of([2.0]), batch)


def test_changed_settings_are_named_with_both_values() -> None:
    corpus: Corpus = corpus_of((index_of([2.0, 3.0]), 1))
    before = Plan(corpus, seed=0, batch=BatchConfig(seconds=10, micro_seconds=5)).fingerprint
    now = Plan(corpus, seed=4, batch=BatchConfig(seconds=20, micro_seconds=5)).fingerprint
    assert changed_settings(before, now) == [
        "seed was 0 and is now 4",
        "batch.seconds was 10.0 and is now 20.0",
    ]
    assert changed_settings(now, now) == []


def test_a_plan_that_begins_elsewhere_starts_that_epoch_there() -> None:
    plan = plan_of(index_of(lognormal(500)), BatchConfig(seconds=320, micro_seconds=160))
    third = [m.rows.tolist() for m in plan.share(plan.step(plan.step_at(3)))]
    moved = plan.begun_at(Origin(step=1000, epoch=3))
    assert [m.rows.tolist() for m in moved.share(moved.step(1000))] == third
    assert moved.progress(1000) == 3
    assert moved.step_at(4) == 1000 + plan.step_at(4) - plan.step_at(3)


@given(spread, batches, stages)
@settings(max_examples=30, deadline=None)
def test_progress_grows_with_every_step(
    index: Index, batch: BatchConfig, curriculum: tuple[StageConfig, ...]
) -> None:
    plan = plan_of(index, batch, curriculum=curriculum)
    done = [plan.progress(step) for step in range(plan.step_at(3) + 1)]
    assert done[0] == 0 and done[-1] == 3
    assert all(before < after for before, after in pairwise(done))


@given(indexes, batches)
@settings(max_examples=30, deadline=None)
def test_no_micro_batch_costs_more_than_the_costliest(index: Index, batch: BatchConfig) -> None:
    plan = plan_of(index, batch)
    costliest = plan.costliest()
    most = max(
        plan.shape.clips_per_micro[m.bucket] * plan.cost.of(plan.census.buckets[m.bucket].edge)
        for m in costliest
    )
    assert max(index.seconds[m.rows].max() for m in costliest) == index.seconds.max()
    held = max(len(m.rows) * plan.cost.of(float(index.seconds[m.rows].max())) for m in costliest)
    assert held == max(held, *(plan.cost.of(float(s)) for s in index.seconds))
    for step in epoch_of(plan, 0):
        for micro in step:
            longest = float(index.seconds[micro.rows].max())
            assert len(micro.rows) * plan.cost.of(longest) <= most * (1 + 1e-6)


def test_repeat_factors_of_a_long_period_are_planned_epoch_by_epoch() -> None:
    corpus = corpus_of((index_of(lognormal(300)), 0.333), (index_of(lognormal(300, 1)), 0.997))
    plan = Plan(corpus, seed=0, batch=BatchConfig(seconds=160, micro_seconds=160))
    for epoch in (0, 1, 40):
        clips = len(counted(epoch_of(plan, epoch)))
        assert abs(clips - 399) <= 2 * len(plan.census.buckets)  # each bucket's share is whole


def test_a_curriculum_of_many_stages_and_buckets_keeps_its_promise() -> None:
    index = index_of(lognormal(2000))
    stages = [StageConfig(max_seconds=10.0)]
    stages += [
        StageConfig(from_step=10 * n, max_seconds=10.0 + 2 * n, ramp_steps=9) for n in range(1, 20)
    ]
    batch = BatchConfig(seconds=160, micro_seconds=160, buckets=128)
    plan = plan_of(index, batch, curriculum=(*stages, StageConfig(from_epoch=4)))
    assert Counter(counted(epoch_of(plan, 4))) == dict.fromkeys(range(2000), 1)


def test_two_threads_may_ask_copies_of_a_plan() -> None:
    stages = (
        StageConfig(max_seconds=4.0),
        StageConfig(from_step=5, max_seconds=54, ramp_steps=200),
    )
    batch = BatchConfig(seconds=108, micro_seconds=54)
    plan = plan_of(index_of(lognormal(1500)), batch, curriculum=stages)
    wanted = [plan.progress(step) for step in range(260)]
    for _ in range(3):
        fresh = plan_of(index_of(lognormal(1500)), batch, curriculum=stages)
        other = fresh.begun_at(fresh.origin)
        with ThreadPoolExecutor(2) as pool:
            asked = [
                pool.submit(lambda p: [p.progress(step) for step in range(260)], p)
                for p in (fresh, other)
            ]
            assert [one.result() for one in asked] == [wanted, wanted]
