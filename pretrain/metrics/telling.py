"""From what a step was to its record."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pretrain.metrics.record import StepRecord
from pretrain.pace import Pace

if TYPE_CHECKING:
    from pretrain.intake import StepData
    from pretrain.start import Course
    from pretrain.updating import Updating
    from shards.plan import StepPlan


@dataclass(frozen=True)
class Took:
    """The time of a step that ended as number ``step``: in all, of this rank's parts, by rank.

    ``pace`` is that of the step before: it is known by then without a wait for the device.
    """

    step: int
    seconds: float
    spent: Mapping[str, float]
    pace: Pace


def record_of(
    course: Course,
    step_plan: StepPlan,
    data: StepData,
    took: Took,
    means: Mapping[str, float],
    updating: Updating,
) -> StepRecord:
    """All that is told of a step; ``means`` are those of the model's terms."""
    plan = course.plan
    return StepRecord(
        step=took.step,
        target=course.target,
        start=course.start,
        processes=updating.engine.processes.world_size,
        time=round(time.time(), 3),
        epoch=plan.progress(took.step),
        loss=means["loss"],
        lr=updating.rate,
        rates=updating.rates,
        tokens=data.tokens,
        padding=data.padding,
        seconds=took.seconds,
        spent=took.spent,
        waited=data.waited,
        parts={name: mean for name, mean in means.items() if name != "loss"},
        gradient_norm=updating.gradient_norm,
        skipped=updating.health.skipped,
        clips=data.clips,
        audio_seconds=data.seconds,
        flops=data.flops,
        bucket=step_plan.bucket,
        pace=took.pace,
        balance=data.balance,
        failed_clips=len(data.failures),
        stage=step_plan.segment.limits.stage,
        admitted_buckets=len(step_plan.segment.admitted),
        withheld=plan.withheld(step_plan),
        gauges=updating.gauges,
    )
