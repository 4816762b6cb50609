"""How far a run is, as a terminal shows it, and how rank 0 tells that to who draws it."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pretrain.metrics.record import StepRecord

DRAWN = "SEGUE_DRAWN"
"""The environment variable that asks rank 0 for `Progress.marked` lines instead of plain ones."""
MARK = "\x1e"
"""Begins a line that is to be drawn and not shown: the record separator, as in RFC 7464."""
RECENT = 50
"""Steps whose mean time is that of those to come."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step.

    ``per_second`` counts targets, in ``unit``; ``real_time`` is how many times faster than real
    time the run trains; ``left`` and ``to_save`` are the seconds to the target and to the next
    checkpoint, None where that is not known yet.
    """

    step: int
    target: int
    epoch: float
    loss: float | None
    lr: float
    per_second: float
    unit: str
    real_time: float
    left: float | None = None
    to_save: float | None = None

    def marked(self) -> str:
        """One line, without its end."""
        return MARK + json.dumps(asdict(self))

    @staticmethod
    def parsed(line: str) -> Progress | None:
        """What `marked` has written; None for any other line."""
        if not line.startswith(MARK):
            return None
        try:
            return Progress(**json.loads(line[len(MARK) :]))
        except (ValueError, TypeError):  # a killed process wrote half of it
            return None


class Forecast:
    """Foresees how long steps take, of which ``next_save(step)`` is the one that saves next.

    Steps to come take the mean time of the last `RECENT`, times what validations, saves and all
    else between steps have added so far since the second step of this start.
    """

    def __init__(self, next_save: Callable[[int], int]) -> None:
        self._next_save, self._save_at = next_save, 0
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._began: float | None = None
        self._stepping = 0.0

    def after(self, record: StepRecord, unit: str) -> Progress:
        """Count a step; where the run stands then."""
        if self._began is None:  # the first step warms up
            self._began = record.time
        else:
            self._recent.append(record.seconds)
            self._stepping += record.seconds
        if record.step >= self._save_at:
            self._save_at = self._next_save(record.step)
        return Progress(
            step=record.step,
            target=record.target,
            epoch=record.epoch,
            loss=record.loss if math.isfinite(record.loss) else None,
            lr=record.lr,
            per_second=record.tokens_per_second,
            unit=unit,
            real_time=record.audio_hours_per_hour,
            left=self._seconds(record.target - record.step, record.time),
            to_save=self._seconds(min(self._save_at, record.target) - record.step, record.time),
        )

    def _seconds(self, steps: int, now: float) -> float | None:
        if self._began is None or not self._stepping:
            return None
        each = sum(self._recent) / len(self._recent)
        return steps * each * max(1.0, (now - self._began) / self._stepping)


def clock(seconds: float | None) -> str:
    """``1:02:03``, ``2 d 3:04:05``; ``-:--:--`` for what is not known."""
    if seconds is None:
        return "-:--:--"
    minutes, second = divmod(max(0, round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{f'{days} d ' if days else ''}{hour}:{minute:02d}:{second:02d}"


def speed(progress: Progress) -> str:
    """Targets a second and how much faster than real time."""
    return f"{progress.per_second:,.0f} {progress.unit}/s  {progress.real_time:,.0f} x real time"


def loss_text(loss: float | None) -> str:
    """A loss to four places."""
    return "nan" if loss is None else f"{loss:.4f}"
