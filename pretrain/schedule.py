"""Learning rates as pure functions of the step and of the steps at which a run was continued."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from shards.section import Section


class ScheduleConfig(Section):
    """``schedule``: the shape of the learning rate over optimizer steps, all lengths absolute."""

    name: Literal["cosine", "wsd", "inverse_sqrt", "exponential", "constant"] = "cosine"
    warmup_steps: int = Field(default=1000, ge=0, description="linear climb from 0 to the peak")
    decay_steps: int | None = Field(
        default=None, ge=1, description="step at which the floor is reached; the target by default"
    )
    cooldown_steps: int | None = Field(
        default=None, ge=1, description="wsd: steps of its decay; by default a tenth of the way"
    )
    floor: float = Field(default=0.1, ge=0, le=1, description="lowest rate, as a share of the peak")
    resume_warmup: int = Field(
        default=100, ge=0, description="steps in which the rate climbs back in a continued run"
    )
    resume_warmup_on: Literal["continue", "restart"] = Field(
        default="continue",
        description="when: after a reached target or changed data, batch or optimizer settings, or "
        "at every start",
    )


def rate_factor(
    schedule: ScheduleConfig, step: int, target: int, resume_points: Sequence[int] = ()
) -> float:
    """The share of the peak rate at ``step`` (counted from 0) of a run that ends at ``target``.

    In the ``resume_warmup`` steps from the last of the ``resume_points`` that is reached, the rate
    climbs in a line from the floor to where the schedule stands (Ibrahim et al. 2024, "re-warming";
    their lines begin at 0).
    """
    there = scheduled(schedule, step, target)
    begun = max((point for point in resume_points if point <= step), default=None)
    if begun is None or step - begun >= schedule.resume_warmup:
        return there
    lowest = min(there, schedule.floor)
    return lowest + (there - lowest) * (step - begun + 1) / schedule.resume_warmup


def scheduled(schedule: ScheduleConfig, step: int, target: int) -> float:
    """`rate_factor` of a run that was never continued.

    Warm-up is (step + 1) / warmup_steps, so that the first step moves and step warmup_steps - 1
    has the peak. Then, with p the share of the way from there to the floor: the cosine of
    Loshchilov & Hutter 2017 (eq. 5, one cycle), floor ** p (exponential), the peak and at the end
    1 - sqrt (wsd; Haegele et al. 2024), sqrt(warmup_steps / step) (Vaswani et al. 2017, 5.3).
    """
    warmup, floor = schedule.warmup_steps, schedule.floor
    if step < warmup:
        return (step + 1) / warmup
    if schedule.name == "constant":
        return 1.0
    if schedule.name == "inverse_sqrt":
        return max(floor, math.sqrt(max(1, warmup) / max(1, warmup, step + 1)))
    way = max(1, (schedule.decay_steps or target) - warmup)
    progress = min(1.0, (step - warmup) / way)
    if schedule.name == "exponential":
        return math.pow(max(floor, 1e-8), progress)
    if schedule.name == "cosine":
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
    cooldown = min(way, schedule.cooldown_steps or max(1, way // 10))
    into = min(1.0, max(0, step - warmup - (way - cooldown)) / cooldown)
    return floor + (1 - floor) * (1 - math.sqrt(into))
