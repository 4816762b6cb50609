from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.pace import LEAST_STEPS, Pace, Stragglers

HOSTS = ("node1", "node1", "node2", "node2", "node3")


def pace(*seconds: float) -> Pace:
    return Pace(np.array(seconds))


def told(*paces: Pace, of: Stragglers | None = None) -> str | None:
    """What is said once these steps have come again and again, often enough to be judged."""
    stragglers = of or Stragglers(HOSTS)
    for one in paces * LEAST_STEPS:
        stragglers.add(one)
    return stragglers.told()


def test_the_slowest_and_fastest_rank_of_a_step_and_the_median() -> None:
    assert pace(1.0, 1.0, 1.5, 1.0, 0.5).figures() == {
        "slowest_rank": 2,
        "slowest_seconds": 1.5,
        "median_seconds": 1.0,
        "slowest_over_median": 1.5,
        "fastest_rank": 4,
        "fastest_seconds": 0.5,
        "fastest_over_median": 0.5,
    }
    assert pace(1.0, 1.0, 1.5, 1.0, 0.5).slowest_over_median == 1.5
    assert pace(0.0, 0.0).slowest_over_median == 1.0 and pace(0.0, 0.0).figures() == {}


def test_a_rank_that_is_slowest_again_and_again_is_named_with_its_host_and_both_times() -> None:
    slow, other = pace(1.0, 1.0, 1.5, 1.0, 1.0), pace(1.1, 1.0, 1.0, 1.0, 1.0)
    line = "rank 2 on node2 is the slowest: busy 1.333 s a step, the median rank 1.000 s"
    assert told(slow, slow, other) == line


def test_one_slow_step_in_two_names_nobody() -> None:
    assert told(pace(1, 1, 9, 1, 1), pace(9, 1, 1, 1, 1)) is None


def test_a_small_lead_names_nobody() -> None:
    small = pace(1.0, 1.0, 1.19, 1.0, 1.0)
    assert told(small, small, small) is None


def test_every_line_counts_the_steps_since_the_one_before() -> None:
    stragglers = Stragglers(HOSTS)
    assert told(pace(1, 1, 3, 1, 1), of=stragglers) is not None
    second = told(pace(1, 1, 1, 1, 3), of=stragglers)
    assert str(second).startswith("rank 4 on node3 is the slowest: busy 3.000 s")


def test_a_few_steps_are_not_judged_yet() -> None:
    stragglers = Stragglers(HOSTS)
    for _ in range(LEAST_STEPS - 1):
        stragglers.add(pace(1, 1, 3, 1, 1))
        assert stragglers.told() is None


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=9), st.integers(1, 5))
def test_ranks_that_are_equally_fast_or_alone_are_never_named(
    seconds: list[float], ranks: int
) -> None:
    stragglers = Stragglers(HOSTS[:ranks])
    for one in seconds * LEAST_STEPS:
        stragglers.add(Pace(np.full(ranks, one)))
    assert stragglers.told() is None


def test_1000_ranks_are_one_vector() -> None:
    seconds = np.full(1000, 0.5)
    seconds[731] = 0.8
    one = Pace(seconds)
    assert one.slowest == 731 and one.slowest_over_median == pytest.approx(1.6)
