from __future__ import annotations

import math

import numpy as np
import pytest

from pretrain.health import Health, HealthConfig, Limits, reason

CONFIG = HealthConfig()


def seen(values: list[float], config: HealthConfig = CONFIG, since: Health | None = None) -> Health:
    """What a run is like after steps with these losses, spikes skipped."""
    health = since or Health()
    for loss in values:
        skipped = not loss <= health.limits(config).loss
        health = health.after(config, loss, 1.0 + loss / 10, skipped=skipped)
    return health


def noise(mean: float, count: int) -> list[float]:
    return (mean + 0.1 * np.random.default_rng(0).standard_normal(count)).tolist()


def test_nothing_is_a_spike_before_half_a_window_was_seen() -> None:
    assert seen(noise(2.0, 63)).limits(CONFIG) == Limits()
    assert math.isfinite(seen(noise(2.0, 64)).limits(CONFIG).norm)


def test_limits_lie_so_many_deviations_over_the_mean_of_the_window() -> None:
    values = noise(2.0, 300)
    limits = seen(values).limits(CONFIG)
    assert limits.loss == pytest.approx(
        np.mean(values[-128:]) + 6 * np.std(values[-128:], ddof=1), rel=1e-12
    )
    assert seen(values).spikes == 0
    assert seen([*values, 4.0]).spikes == 1
    assert seen(values, HealthConfig(sigmas=None)).limits(HealthConfig(sigmas=None)) == Limits()


def test_rounding_of_a_loss_that_does_not_change_is_no_spike() -> None:
    constant = seen([2.0] * 128)
    assert seen([2.0 + 1e-9], since=constant).spikes == 0
    assert seen([2.01], since=constant).spikes == 1


@pytest.mark.parametrize("level", [3.0, 20.0, 1e6])
def test_a_lasting_change_of_level_costs_fewer_steps_than_end_a_run(level: float) -> None:
    changed = seen(noise(level, 100), since=seen(noise(2.0, 300)))
    assert 1 <= changed.spikes < CONFIG.max_skips
    assert changed.in_a_row == 0


def test_a_step_that_is_not_finite_counts_and_moves_no_limit() -> None:
    before = seen(noise(2.0, 200))
    after = before.after(CONFIG, math.nan, 1.0, skipped=True)
    after = after.after(CONFIG, 2.0, math.inf, skipped=True)
    assert (after.non_finite, after.spikes, after.skipped, after.in_a_row) == (2, 0, 2, 2)
    assert after.limits(CONFIG) == before.limits(CONFIG)
    assert after.after(CONFIG, 2.0, 1.0, skipped=False).in_a_row == 0


def test_a_checkpoint_keeps_every_bit_of_it() -> None:
    health = seen(noise(2.0, 200))
    assert Health.model_validate_json(health.model_dump_json()) == health


def test_the_reason_says_what_was_over_which_limit() -> None:
    limits = Limits(loss=3.0, norm=1.5)
    assert reason(4.0, 1.0, limits) == "its loss 4 is over 3"
    assert reason(4.0, 9.0, limits) == "its loss 4 is over 3 and its gradient norm 9 is over 1.5"
    assert reason(2.0, math.inf, limits) == "its gradient is not finite"
    assert reason(math.nan, math.nan, limits) == "its loss is not finite"
