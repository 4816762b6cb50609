"""A run's length in steps, epochs, hours and targets, from its plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pretrain.models.protocol import Family
from shards.epochs import Segment
from shards.plan import Plan

SAMPLED = 24
"""Steps of each stage whose clips are looked up; a stage of fewer is counted whole."""


@dataclass(frozen=True)
class Content:
    """What a mean step of a stage holds; ``padding`` is a share of the padded audio."""

    hours: float
    clips: float
    targets: float
    padding: float


@dataclass(frozen=True)
class Stage:
    """Steps ``first`` to ``last`` - 1 of a run, in which one stage of the curriculum holds.

    ``max_seconds`` is the longest clip that it comes to admit, infinite without a limit.
    """

    number: int
    first: int
    last: int
    max_seconds: float
    epochs: float
    mean: Content

    @property
    def steps(self) -> int:
        """How many it has."""
        return self.last - self.first

    @property
    def hours(self) -> float:
        """Audio of its clips, each as often as it comes."""
        return self.mean.hours * self.steps

    @property
    def targets(self) -> float:
        """What its losses sum over."""
        return self.mean.targets * self.steps


def stages(plan: Plan, model: Family, target: int) -> tuple[Stage, ...]:
    """The curriculum's stages up to the step ``target``, ascending; one without a curriculum.

    Contents are means over SAMPLED steps spread evenly over the stage, read from the index.
    """
    begun = list(_begun(plan, target))
    ends = [first for first, _ in begun[1:]] + [target]
    return tuple(
        Stage(
            number=segment.limits.stage,
            first=first,
            last=last,
            max_seconds=plan.step(last - 1).segment.limits.max_seconds,
            epochs=plan.progress(last) - plan.progress(first),
            mean=_content(plan, model, first, last),
        )
        for (first, segment), last in zip(begun, ends, strict=True)
    )


def _begun(plan: Plan, target: int) -> Iterator[tuple[int, Segment]]:
    """The first step and segment of each stage."""
    step, stage = plan.origin.step, -1
    while step < target:
        segment = plan.epochs.at(step)
        if segment.limits.stage != stage:
            stage = segment.limits.stage
            yield step, segment
        if plan.limits.settled(segment.epoch, segment.first_step):
            return
        step = plan.epochs.end(segment)


def _content(plan: Plan, model: Family, first: int, last: int) -> Content:
    steps = np.unique(np.linspace(first, last - 1, min(SAMPLED, last - first)).astype(np.int64))
    sums = np.zeros(4)
    for step in steps.tolist():
        for micro in plan.share(plan.step(step)):
            if micro.counted:
                seconds = plan.corpus.seconds(micro.rows)
                targets = model.targets(plan.corpus, micro.rows).sum()
                padded = len(seconds) * seconds.max()
                sums += [seconds.sum(), len(seconds), targets, padded]
    held, clips, targets, padded = sums.tolist()
    count = len(steps)
    return Content(held / 3600 / count, clips / count, targets / count, max(0, 1 - held / padded))
