from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_checkpoint import KEEP_ALL, names, save

from pretrain.checkpoint.keep import CheckpointConfig, Saved, due, kept, next_due
from pretrain.checkpoint.manifest import step_of

STEPS_PER_EPOCH = 7


def runs(config: CheckpointConfig, steps: int) -> list[Saved]:
    """The checkpoints that a run of so many steps leaves, pruned after every save."""
    there: list[Saved] = []
    for step in range(1, steps + 1):
        epoch, before = step / STEPS_PER_EPOCH, (step - 1) / STEPS_PER_EPOCH
        if due(config, step, epoch, before):
            there.append(
                Saved(f"step {step}", step, epoch, validation_loss=float((step - 30) ** 2))
            )
            names = kept(config, there)
            there = [one for one in there if one.name in names]
    return there


def test_the_newest_are_kept() -> None:
    config = CheckpointConfig(every=5, keep_last=3, keep_best=False)
    assert [one.step for one in runs(config, 52)] == [40, 45, 50]


def test_one_at_every_so_many_steps_is_kept_for_good() -> None:
    config = CheckpointConfig(every=5, keep_every_steps=12, keep_best=False)
    assert [one.step for one in runs(config, 52)] == [12, 24, 36, 48, 50]


def test_one_at_the_end_of_every_so_many_epochs_is_kept_for_good() -> None:
    config = CheckpointConfig(every=5, keep_every_epochs=2, keep_best=False)
    assert [one.step for one in runs(config, 52)] == [14, 28, 42, 45, 50]


def test_the_lowest_validation_loss_is_kept() -> None:
    assert [one.step for one in runs(CheckpointConfig(every=7), 60)] == [28, 49, 56]


@given(
    every=st.integers(1, 9),
    last=st.integers(2, 4),
    steps=st.none() | st.integers(1, 20),
    epochs=st.none() | st.floats(0.3, 4),
    total=st.integers(1, 120),
)
def test_what_stays_is_a_promise(
    every: int, last: int, steps: int | None, epochs: float | None, total: int
) -> None:
    config = CheckpointConfig(
        every=every, keep_last=last, keep_every_steps=steps, keep_every_epochs=epochs
    )
    stay = {one.step for one in runs(config, total)}
    saved = [
        step
        for step in range(1, total + 1)
        if due(config, step, step / STEPS_PER_EPOCH, (step - 1) / STEPS_PER_EPOCH)
    ]
    assert set(range(every, total + 1, every)) <= set(saved)
    assert set(saved[-last:]) <= stay
    if steps:
        assert {step for step in saved if step % steps == 0} <= stay
    if epochs:
        assert len(stay) >= min(len(saved), int(total / STEPS_PER_EPOCH / epochs + 1e-9))


def test_losses_on_other_clips_are_not_compared() -> None:
    old = [Saved(f"old {n}", n, 0.0, validation_loss=0.1 * n, held_out="a") for n in (1, 2)]
    new = [Saved(f"new {n}", n, 0.0, validation_loss=5.0 + n, held_out="b") for n in (3, 4, 5, 6)]
    assert kept(CheckpointConfig(keep_last=2), [*old, *new]) == {"new 3", "new 5", "new 6"}


def test_a_save_removes_what_is_not_kept(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        save(tmp_path, step, 1, config=CheckpointConfig(keep_last=2, keep_every_steps=4))
    assert [step_of(name) for name in names(tmp_path)] == [8, 6, 4]


def test_two_are_the_least() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        CheckpointConfig(keep_last=1)
    assert KEEP_ALL.keep_last == 100


@given(
    every=st.integers(1, 12),
    for_good=st.none() | st.integers(1, 12),
    epochs=st.none() | st.sampled_from([1 / STEPS_PER_EPOCH, 1.0, 2.0]),
    step=st.integers(0, 40),
)
def test_the_next_save_is_foreseen(
    every: int, for_good: int | None, epochs: float | None, step: int
) -> None:
    config = CheckpointConfig(every=every, keep_every_steps=for_good, keep_every_epochs=epochs)
    at = step + 1
    while not due(config, at, at / STEPS_PER_EPOCH, (at - 1) / STEPS_PER_EPOCH):
        at += 1

    def step_at(epochs: float) -> int:
        return round(epochs * STEPS_PER_EPOCH)

    assert next_due(config, step, step / STEPS_PER_EPOCH, step_at) == at
