"""Which steps move nothing, told from the steps before them.

A step is a spike where its loss or the norm of its gradient is more than ``sigmas`` standard
deviations over the mean of the last ``window`` finite steps, skipped ones among them, as in
OLMo-core's SkipStepOptimizer. Because spikes count too, a lasting change of level (other data,
longer clips, more that trains) is let through after about ``window / sigmas**2`` steps; if they
did not, it would end the run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from shards.section import Section

ROUNDING = 1e-6
"""The least standard deviation, as a share of the mean: what rounding in float32 may make."""


class HealthConfig(Section):
    """``health``: which steps are skipped, and how many of them end a run."""

    sigmas: float | None = Field(
        default=6.0,
        gt=0,
        description="skip a step whose loss or gradient norm is so many standard deviations over "
        "the mean of the steps before; null: skip only what is not finite",
    )
    window: int = Field(
        default=128, ge=4, description="steps before it that a step is held against; half to begin"
    )
    max_skips: int = Field(default=5, ge=1, description="end after so many skipped steps in a row")


@dataclass(frozen=True)
class Limits:
    """A step over one of them is a spike."""

    loss: float = math.inf
    norm: float = math.inf


class Health(BaseModel):
    """What a run's steps were like so far, the same on all ranks; a checkpoint keeps it.

    ``losses`` and ``norms`` are those of the last finite steps, the newest last. ``non_finite`` and
    ``spikes`` count skipped steps over the run, ``in_a_row`` those since the last that was not.
    """

    model_config = ConfigDict(frozen=True)

    losses: tuple[float, ...] = ()
    norms: tuple[float, ...] = ()
    non_finite: int = 0
    spikes: int = 0
    in_a_row: int = 0

    @property
    def skipped(self) -> int:
        """Steps that moved nothing, over the run."""
        return self.non_finite + self.spikes

    def limits(self, config: HealthConfig) -> Limits:
        """Those of the next step."""
        if config.sigmas is None or 2 * len(self.losses) < config.window:
            return Limits()
        return Limits(
            _over(self.losses[-config.window :], config.sigmas),
            _over(self.norms[-config.window :], config.sigmas),
        )

    def after(self, config: HealthConfig, loss: float, norm: float, *, skipped: bool) -> Health:
        """What it is after one more step."""
        finite = math.isfinite(loss) and math.isfinite(norm)
        kept = config.window if config.sigmas is not None else 0
        return Health(
            losses=_last(kept, self.losses, loss) if finite else self.losses,
            norms=_last(kept, self.norms, norm) if finite else self.norms,
            non_finite=self.non_finite + (skipped and not finite),
            spikes=self.spikes + (skipped and finite),
            in_a_row=self.in_a_row + 1 if skipped else 0,
        )


def reason(loss: float, norm: float, limits: Limits) -> str:
    """Why a step was skipped."""
    if not math.isfinite(loss):
        return "its loss is not finite"
    if not math.isfinite(norm):
        return "its gradient is not finite"
    over = (("loss", loss, limits.loss), ("gradient norm", norm, limits.norm))
    said = [f"its {what} {value:.4g} is over {most:.4g}" for what, value, most in over]
    return " and ".join(
        text for text, (_, value, most) in zip(said, over, strict=True) if value > most
    )


def _over(values: Sequence[float], sigmas: float) -> float:
    mean = np.mean(values)
    return float(mean + sigmas * max(np.std(values, ddof=1), ROUNDING * abs(mean)))


def _last(count: int, values: tuple[float, ...], newest: float) -> tuple[float, ...]:
    return (*values, newest)[-count:] if count else ()
