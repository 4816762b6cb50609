"""``segue jobs``: how the runs stand, in the queue and in their folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.step_log import last_steps
from slurm.queue import QueuedJob, jobs_of
from slurm.run_folder import (
    STEPS,
    eta_seconds,
    has_trained,
    is_in_use,
    last_time,
    newest_state,
    of_this_start,
)


@dataclass(frozen=True)
class RunStatus:
    """How one run stands. ``jobs`` are those in the queue, those with nodes first.

    ``state`` is in SLURM's words where the run is in the queue, else "running", "at target" or
    "stopped"; what is not known is None. ``age_seconds`` is the last step's.
    """

    run: Path
    state: str
    jobs: tuple[QueuedJob, ...]
    step: int | None
    target: int | None
    loss: float | None
    eta_seconds: float | None
    restarts: int | None
    age_seconds: float | None


def statuses(runs: Path, jobs: Sequence[QueuedJob], now: float) -> list[RunStatus]:
    """The runs of ``jobs``, wherever they lie, then those in the folder ``runs``, newest first.

    ``now`` is in seconds since 1970.
    """
    queued = {job.run.resolve(): job.run for job in jobs if job.run}
    found = [status(run, jobs_of(run, jobs), now) for run in queued.values()]
    folders = [run for run in sorted(runs.absolute().glob("*")) if has_trained(run)]
    others = [status(run, (), now) for run in folders if run.resolve() not in queued]
    return found + sorted(others, key=lambda one: one.age_seconds or 0.0)


def status(run: Path, jobs: Sequence[QueuedJob], now: float) -> RunStatus:
    """How the run in a folder stands; ``jobs`` are its own, those with nodes first."""
    steps = last_steps(run, STEPS + 1)
    last = steps[-1] if steps else None
    target = last.target if last else None
    saved = newest_state(run) if not jobs or target is None else None
    step = last.step if last else saved.step if saved else None
    target = target or (saved.target if saved else 0) or None
    state = _state(run, jobs, reached=bool(step and target and step >= target))
    has_nodes = not jobs[0].waits if jobs else state == "running"
    restarts = jobs[0].restarts if jobs else len(saved.starts) - 1 if saved else None
    ended = last_time(run, steps)
    return RunStatus(
        run=run,
        state=state,
        jobs=tuple(jobs),
        step=step,
        target=target,
        loss=last.loss if last else None,
        eta_seconds=eta_seconds(of_this_start(run, steps), target)
        if has_nodes and target
        else None,
        restarts=restarts if restarts is None else max(0, restarts),
        age_seconds=None if ended is None else max(0.0, now - ended),
    )


def _state(run: Path, jobs: Sequence[QueuedJob], *, reached: bool) -> str:
    if jobs:
        return jobs[0].standing
    if is_in_use(run):
        return "running"
    return "at target" if reached else "stopped"
