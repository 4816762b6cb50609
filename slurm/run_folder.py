"""What a run's folder tells of it, whoever trains it."""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from launch.step_log import LOG, Step
from pretrain.lock import FILE_NAME as LOCK
from pretrain.lock import is_stale

if TYPE_CHECKING:
    from pretrain.checkpoint.manifest import State

STEPS = 50
"""Steps whose pace tells when a run ends."""
CONFIG = "config.yaml"


def has_trained(folder: Path) -> bool:
    """Whether a run was ever started here."""
    return (folder / LOG).is_file() or (folder / CONFIG).is_file()


def last_time(folder: Path, steps: Sequence[Step]) -> float | None:
    """When the last of ``steps`` ended; None of none."""
    if not steps:
        return None
    return steps[-1].time or (folder / LOG).stat().st_mtime


def of_this_start(folder: Path, steps: Sequence[Step]) -> list[Step]:
    """Those of ``steps`` that ended after the process that has the run took its lock."""
    try:
        began = (folder / LOCK).stat().st_mtime
    except FileNotFoundError:
        return []
    return [step for step in steps if step.time and step.time >= began]


def eta_seconds(steps: Sequence[Step], target: int) -> float | None:
    """Seconds from the last of ``steps`` to ``target`` at their mean pace.

    The pace is wall time, saves and validations included; None of fewer than two steps.
    """
    timed = [(step.step, step.time) for step in steps if step.time]
    if len(timed) < 2:
        return None
    (first, began), (last, ended) = timed[0], timed[-1]
    if last <= first:
        return None
    return max(0, target - last) * (ended - began) / (last - first)


def newest_state(folder: Path) -> State | None:
    """What the run's newest checkpoint records; None without one, or behind a URL."""
    from pretrain.checkpoint.location import store_of
    from pretrain.checkpoint.manifest import Manifest
    from pretrain.checkpoint.store import LocalStore, newest

    store = store_of(str(folder))
    if not isinstance(store, LocalStore):
        return None
    return next((found.state for _, found in newest(store) if isinstance(found, Manifest)), None)


def is_in_use(folder: Path) -> bool:
    """Whether a process holds the run's lock.

    Of a process of another machine only the lock itself tells. To try it is to hold it for a
    moment, shared with others who look, but not with a run that starts just then.
    """
    try:
        file = (folder / LOCK).open(encoding="utf-8")
    except FileNotFoundError:
        return False
    with file:
        if is_stale(file.read().strip()):
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # held, or a file system without locks: then the name in the file counts
            return True
        return False
