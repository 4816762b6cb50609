from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.groups import OptimizerConfig, parameter_groups
from pretrain.schedule import ScheduleConfig, rate_factor


def test_warm_up_is_linear_from_the_first_step_to_the_peak() -> None:
    schedule = ScheduleConfig(warmup_steps=4)
    assert [rate_factor(schedule, step, 100) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_the_cosine_falls_to_the_floor_at_the_target_and_stays() -> None:
    schedule = ScheduleConfig(warmup_steps=10, floor=0.1)
    assert rate_factor(schedule, 10, 110) == 1.0
    assert rate_factor(schedule, 60, 110) == pytest.approx(0.55)
    assert rate_factor(schedule, 110, 110) == pytest.approx(0.1)
    assert rate_factor(schedule, 500, 110) == pytest.approx(0.1)


def test_a_stated_decay_length_does_not_move_with_the_target() -> None:
    schedule = ScheduleConfig(warmup_steps=10, decay_steps=100)
    assert rate_factor(schedule, 50, 100) == rate_factor(schedule, 50, 100_000)


@given(st.integers(0, 1000), st.integers(0, 50), st.integers(1, 1000))
def test_the_factor_stays_between_zero_and_one(step: int, warmup: int, target: int) -> None:
    for name in ("cosine", "constant"):
        schedule = ScheduleConfig.model_validate({"name": name, "warmup_steps": warmup})
        assert 0 < rate_factor(schedule, step, target) <= 1


def test_norms_and_biases_do_not_decay() -> None:
    groups = parameter_groups(
        [("h.weight", 2), ("h.bias", 1), ("norm.weight", 1)], OptimizerConfig(weight_decay=0.3)
    )
    assert [(g.parameters, g.weight_decay) for g in groups] == [
        (("h.weight",), 0.3),
        (("h.bias", "norm.weight"), 0.0),
    ]


def test_there_is_no_empty_group() -> None:
    assert [g.name for g in parameter_groups([("w", 2)], OptimizerConfig())] == ["decay"]
