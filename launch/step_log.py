"""The end of a run's log.jsonl."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from launch.last_lines import last_lines, records

LOG = "log.jsonl"


class Step(BaseModel, frozen=True):
    """A record of the log; ``time`` is when the step ended, in seconds since 1970.

    A loss that was not finite is None; logs of older versions have no time and target.
    """

    step: int
    loss: float | None
    target: int | None = None
    time: float | None = None


def last_steps(run_folder: Path, count: int) -> list[Step]:
    """The newest records of a run, so many at most, the oldest of them first."""
    return list(records(Step, last_lines(run_folder / LOG, count)))


def last_step(run_folder: Path) -> int:
    """The last step in the run's log, 0 for none."""
    steps = last_steps(run_folder, 2)  # the last line may be half a one
    return steps[-1].step if steps else 0
