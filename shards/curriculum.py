"""The curriculum: which clip lengths are admitted at a step, as a pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field

from shards.errors import UserError
from shards.section import Section

RAMP_LEVELS = 16
"""A ramp rises in so many equal parts, each when the straight line has reached it."""


class StageConfig(Section):
    """One stage of ``data.curriculum``; it lasts until the next one begins.

    A stage begins at an absolute step or epoch. ``ramp_steps`` (``ramp_epochs``) let max_seconds
    rise in a straight line from the stage before, over so many steps (epochs).
    """

    from_step: int | None = Field(default=None, ge=0)
    from_epoch: int | None = Field(default=None, ge=0)
    min_seconds: float = Field(default=0.0, ge=0)
    max_seconds: float | None = Field(default=None, gt=0)
    ramp_steps: int | None = Field(default=None, ge=1)
    ramp_epochs: int | None = Field(default=None, ge=1)

    def reached(self, epoch: int, step: int) -> bool:
        """Whether the stage's beginning has come."""
        if self.from_epoch is not None:
            return epoch >= self.from_epoch
        return step >= (self.from_step or 0)


@dataclass(frozen=True)
class Limits:
    """What is admitted: ``min_seconds`` <= clip <= ``max_seconds``, and by which stage."""

    stage: int
    min_seconds: float
    max_seconds: float


class Curriculum:
    """Stages over the corpus's own limits."""

    def __init__(
        self, stages: Sequence[StageConfig], min_seconds: float, max_seconds: float | None
    ) -> None:
        """UserError for stages that contradict each other."""
        self.stages = tuple(stages) or (StageConfig(),)
        self.lowest = min_seconds
        self.highest = np.inf if max_seconds is None else max_seconds
        for number, stage in enumerate(self.stages):
            self._refuse(number, stage)

    def at(self, epoch: int, step: int) -> Limits:
        """The limits in force when ``step`` is taken in ``epoch``."""
        number = max(
            n for n, stage in enumerate(self.stages) if n == 0 or stage.reached(epoch, step)
        )
        stage = self.stages[number]
        highest = self._max(number)
        if stage.ramp_steps is not None:
            done = (step - (stage.from_step or 0)) / stage.ramp_steps
            highest = self._ramped(number, done)
        elif stage.ramp_epochs is not None:
            highest = self._ramped(number, (epoch - (stage.from_epoch or 0)) / stage.ramp_epochs)
        return Limits(number, max(stage.min_seconds, self.lowest), highest)

    def marks(self) -> tuple[int, ...]:
        """The steps at which limits can change inside an epoch, ascending."""
        marks: set[int] = set()
        for stage in self.stages:
            if stage.from_epoch is None:
                start = stage.from_step or 0
                steps = stage.ramp_steps or 0
                marks |= {start + -(-steps * n // RAMP_LEVELS) for n in range(RAMP_LEVELS + 1)}
        return tuple(sorted(marks - {0}))

    def settled(self, epoch: int, step: int) -> bool:
        """Whether nothing changes any more."""
        epochs = [(s.from_epoch or 0) + (s.ramp_epochs or 0) for s in self.stages]
        return epoch >= max(epochs) and step >= max(self.marks(), default=0)

    def every(self) -> tuple[Limits, ...]:
        """Every pair of limits that is ever in force."""
        return tuple(
            Limits(number, max(stage.min_seconds, self.lowest), level)
            for number, stage in enumerate(self.stages)
            for level in self._levels(number)
        )

    def cuts(self) -> npt.NDArray[np.float32]:
        """Ascending lengths between which no limit lies: bands ]cut, next cut] are whole."""
        below = [
            np.nextafter(np.float32(limits.min_seconds), np.float32(-np.inf))
            for limits in self.every()
        ]
        highest = [np.float32(limits.max_seconds) for limits in self.every()]
        return np.unique(np.array(below + highest, dtype=np.float32))

    def _max(self, number: int) -> float:
        wanted = self.stages[number].max_seconds
        return self.highest if wanted is None else min(wanted, self.highest)

    def _levels(self, number: int) -> list[float]:
        stage = self.stages[number]
        if stage.ramp_steps is None and stage.ramp_epochs is None:
            return [self._max(number)]
        return [self._ramped(number, level / RAMP_LEVELS) for level in range(RAMP_LEVELS + 1)]

    def _ramped(self, number: int, done: float) -> float:
        level = min(RAMP_LEVELS, int(done * RAMP_LEVELS + 1e-9))
        start, end = self._max(number - 1), self._max(number)
        return start + (end - start) * level / RAMP_LEVELS

    def _refuse(self, number: int, stage: StageConfig) -> None:
        name = f"data.curriculum[{number}]"
        begins = [key for key in ("from_step", "from_epoch") if getattr(stage, key) is not None]
        if len(begins) == 2:
            raise UserError(f"{name}: from_step and from_epoch are both given; keep one")
        if number == 0 and (stage.from_step or stage.from_epoch):
            raise UserError(f"{name}: the first stage begins at 0; leave {begins[0]} out")
        if number and not begins:
            raise UserError(f"{name}: it has no beginning; give from_step or from_epoch")
        for kind in ("step", "epoch"):
            mine = getattr(stage, f"from_{kind}")
            before = [getattr(other, f"from_{kind}") or 0 for other in self.stages[:number]]
            if mine is not None and before and mine <= max(before):
                raise UserError(
                    f"{name}: from_{kind}={mine} does not come after the stages before it; "
                    f"order them and begin at {max(before) + 1} or later"
                )
            if getattr(stage, f"ramp_{kind}s") is not None and (number == 0 or mine is None):
                raise UserError(
                    f"{name}: ramp_{kind}s needs a stage before it and from_{kind}; add them"
                )
        self._refuse_ramp_without_ends(name, number, stage)
        if max(stage.min_seconds, self.lowest) > self._max(number):
            raise UserError(
                f"{name}: min_seconds={max(stage.min_seconds, self.lowest):g} is above "
                f"max_seconds={self._max(number):g}; no clip can be that long"
            )

    def _refuse_ramp_without_ends(self, name: str, number: int, stage: StageConfig) -> None:
        ramps = stage.ramp_steps is not None or stage.ramp_epochs is not None
        if ramps and not (np.isfinite(self._max(number - 1)) and np.isfinite(self._max(number))):
            raise UserError(
                f"{name}: a ramp needs max_seconds in its stage and in the one before; set both"
            )
