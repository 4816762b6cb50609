"""Learning rates as pure functions of the step."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from shards.section import Section


class ScheduleConfig(Section):
    """``schedule``: the shape of the learning rate over optimizer steps, all lengths absolute."""

    name: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = Field(default=1000, ge=0, description="linear climb from 0 to the peak")
    decay_steps: int | None = Field(
        default=None, ge=1, description="step at which the floor is reached; the target by default"
    )
    floor: float = Field(default=0.1, ge=0, le=1, description="lowest rate, as a share of the peak")


def rate_factor(schedule: ScheduleConfig, step: int, target: int) -> float:
    """The share of the peak rate at ``step`` (counted from 0) of a run that ends at ``target``.

    Warm-up is (step + 1) / warmup_steps, so that the first step moves and step warmup_steps - 1
    has the peak; then the cosine of Loshchilov & Hutter 2017 (eq. 5, one cycle) to the floor.
    """
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    if schedule.name == "constant":
        return 1.0
    end = schedule.decay_steps or target
    span = max(1, end - schedule.warmup_steps)
    progress = min(1.0, (step - schedule.warmup_steps) / span)
    return schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * progress))
