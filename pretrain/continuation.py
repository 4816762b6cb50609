"""Whether a run that goes on is merely restarted, or continued as something new."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pretrain.checkpoint.manifest import State
from pretrain.schedule import ScheduleConfig

SECTIONS = ("batch", "optimizer", "components")
"""What of the config makes a run another one when it changes; data is told by the plan."""


def reasons(saved: State, target: int, config: Mapping[str, Any], data: Sequence[str]) -> list[str]:
    """Why the run of the checkpoint ``saved`` is a continued one: nothing for a mere restart.

    ``config`` is the whole config of now, ``data`` what changed in the data order.
    """
    extended = saved.target and saved.step >= saved.target and target > saved.step
    return [
        *([f"it had reached its target, step {saved.target}"] if extended else []),
        *(change for change in data if not change.startswith("batch.")),
        *_changes(saved.config, config),
    ]


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for section in SECTIONS:
        old, new = before.get(section, {}), now.get(section, {})
        for key in {**old, **new}:
            if key in old and old[key] != new.get(key):
                yield f"{section}.{key} was {old[key]} and is now {new.get(key)}"
            elif key not in old and section == "components":
                yield f"{section}.{key} is new"


def resume_points(
    schedule: ScheduleConfig, saved: State, why: Sequence[str]
) -> tuple[tuple[int, ...], bool]:
    """The steps from which the rate climbs back, and whether this start added one."""
    again = bool(why) or schedule.resume_warmup_on == "restart"
    adds = again and schedule.resume_warmup > 0 and saved.step not in saved.resume_points
    return (*saved.resume_points, *((saved.step,) if adds else ())), adds
