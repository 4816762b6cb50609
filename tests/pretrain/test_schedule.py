from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.checkpoint.manifest import State
from pretrain.continuation import reasons, resume_points
from pretrain.groups import OptimizerConfig, parameter_groups
from pretrain.schedule import ScheduleConfig, rate_factor, scheduled


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


NAMES = ("cosine", "wsd", "inverse_sqrt", "exponential", "constant")


@given(
    st.sampled_from(NAMES),
    st.integers(0, 1000),
    st.integers(0, 50),
    st.integers(1, 1000),
    st.lists(st.integers(0, 1000), max_size=3),
)
def test_the_factor_stays_between_zero_and_one(
    name: str, step: int, warmup: int, target: int, points: list[int]
) -> None:
    schedule = ScheduleConfig.model_validate({"name": name, "warmup_steps": warmup})
    assert 0 < rate_factor(schedule, step, target, points) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_after_the_warm_up_no_rate_rises_and_the_peak_is_met_once(name: str) -> None:
    schedule = ScheduleConfig.model_validate({"name": name, "warmup_steps": 20, "floor": 0.05})
    rates = [rate_factor(schedule, step, 300) for step in range(400)]
    assert rates[19] == 1.0 and rates[19:] == sorted(rates[19:], reverse=True)
    ends = {"cosine": 0.05, "wsd": 0.05, "exponential": 0.05, "constant": 1.0}
    assert rates[300] == pytest.approx(ends.get(name, (20 / 301) ** 0.5))


def test_wsd_is_at_the_peak_until_it_cools_down() -> None:
    schedule = ScheduleConfig(name="wsd", warmup_steps=10, cooldown_steps=40, floor=0)
    rates = [rate_factor(schedule, step, 210) for step in range(211)]
    assert set(rates[9:171]) == {1.0} and rates[180] == pytest.approx(1 - (10 / 40) ** 0.5)
    assert rates[210] == 0


def test_a_continued_run_climbs_from_the_floor_to_where_the_schedule_stands() -> None:
    schedule = ScheduleConfig(warmup_steps=10, decay_steps=500, resume_warmup=20, floor=0.1)
    plain = [scheduled(schedule, step, 1000) for step in range(400)]
    rates = [rate_factor(schedule, step, 1000, (200,)) for step in range(400)]
    assert rates[:200] == plain[:200] and rates[219:] == plain[219:]
    pairs = zip(rates[200:219], plain[200:219], strict=True)
    climb = [(rate - 0.1) / (there - 0.1) for rate, there in pairs]
    assert climb == pytest.approx([(k + 1) / 20 for k in range(19)])


@given(st.integers(0, 300), st.integers(1, 50), st.integers(1, 50))
def test_a_restart_inside_a_re_warming_changes_no_rate(begun: int, length: int, after: int) -> None:
    schedule = ScheduleConfig(name="constant", resume_warmup=length)
    config = {"optimizer": {"lr": 2.0}}
    saved = state(step=begun, config={"optimizer": {"lr": 1.0}})
    why = reasons(saved, 1000, config, [])
    points, adds = resume_points(schedule, saved, why)
    assert adds and points == (begun,)
    # killed before a checkpoint was written: the same again
    assert resume_points(schedule, saved, reasons(saved, 1000, config, [])) == (points, True)
    later = state(step=begun + after, config=config, resume_points=points)
    again, adds = resume_points(schedule, later, reasons(later, 1000, config, []))
    assert not adds and again == points


def state(**facts: Any) -> State:
    return State.model_validate(
        {"epoch": 0.0, "updates": 0, "fingerprint": {}, "shapes": {}, "target": 1000, **facts}
    )


def test_what_makes_a_run_a_continued_one() -> None:
    saved = state(step=100, target=100, config={"optimizer": {"lr": 1.0}, "data": {"workers": 1}})
    same = {"optimizer": {"lr": 1.0}, "data": {"workers": 2}}
    assert reasons(saved, 100, same, []) == []
    assert reasons(saved, 200, same, []) == ["it had reached its target, step 100"]
    assert reasons(saved, 100, same, ["data.filter was a and is now b"])
    assert reasons(state(step=50, target=100, config=same), 200, same, []) == []
    (why,) = reasons(saved, 100, {"optimizer": {"lr": 0.5}}, [])
    assert why == "optimizer.lr was 1.0 and is now 0.5"


def test_a_mere_restart_re_warms_only_where_that_is_asked() -> None:
    saved = state(step=100)
    assert resume_points(ScheduleConfig(), saved, []) == ((), False)
    always = ScheduleConfig(resume_warmup_on="restart")
    assert resume_points(always, saved, []) == ((100,), True)
    assert resume_points(ScheduleConfig(resume_warmup=0), saved, ["a change"]) == ((), False)


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
