"""The user's jobs in SLURM's queue, from SLURM 20.11 on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from slurm.programs import answer

# Width 0 leaves nothing out; the separators are control characters that no value holds.
_BETWEEN, _END = "\x1f", "\x1e"
_FIELDS = (
    *("JobArrayID", "ArrayTaskID", "Name", "Command", "State", "Reason", "RestartCnt"),
    *("SubmitTime", "StartTime", "TimeUsed", "TimeLimit", "NodeList"),
)
_FORMAT = f":0{_BETWEEN},".join(_FIELDS) + f":0{_END}"
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"}


@dataclass(frozen=True)
class QueuedJob:
    """A job or a task of a job array, as the queue has it.

    ``id`` is what SLURM's commands take, such as 12 or 12_3, with 3 the ``array_task``; ``run`` is
    the folder of the run that the job trains, None for other jobs. ``state`` and ``reason`` are
    SLURM's words, ``reason`` "" where there is none; ``started`` is expected for a pending job;
    times are aware, ``limit_seconds`` None without a limit; ``nodes`` is SLURM's list of names.
    """

    id: str
    array_task: int | None
    name: str
    run: Path | None
    state: str
    reason: str
    restarts: int
    submitted: datetime | None
    started: datetime | None
    elapsed_seconds: float | None
    limit_seconds: float | None
    nodes: str

    @property
    def waits(self) -> bool:
        """Whether it has no nodes yet, or none again."""
        return self.state in _WAITING

    @property
    def standing(self) -> str:
        """Its state in small letters and, of a waiting job, why it waits."""
        why = f" ({self.reason})" if self.waits and self.reason else ""
        return self.state.lower() + why


def jobs_of_user() -> list[QueuedJob]:
    """This user's jobs, each task of an array for itself; UserError where squeue gives none."""
    return parsed(
        answer("squeue", "--noheader", "--array", f"--user={os.getuid()}", f"--Format={_FORMAT}")
    )


def jobs_of(run: Path, jobs: Sequence[QueuedJob]) -> list[QueuedJob]:
    """Those of ``jobs`` that train in the folder ``run``, those with nodes first."""
    folder = run.resolve()
    found = [job for job in jobs if job.run and job.run.resolve() == folder]
    return sorted(found, key=lambda job: job.waits)


def cancel_jobs(jobs: Sequence[QueuedJob]) -> None:
    """End jobs, or take them out of the queue; UserError where scancel refuses."""
    answer("scancel", *(job.id for job in jobs))


def parsed(answer: str) -> list[QueuedJob]:
    """What squeue printed, as jobs."""
    return [_job(record.split(_BETWEEN)) for record in answer.split(_END)[:-1]]


def seconds(written: str) -> float | None:
    """A time as SLURM writes it, [DAYS-][[HOURS:]MINUTES:]SECONDS; None for a word."""
    days, _, clock = written.rpartition("-")
    parts = [days or "0", *(["0", "0", *clock.split(":")][-3:])]
    if not all(part.isdecimal() for part in parts):
        return None
    day, hour, minute, second = map(int, parts)
    return float(((day * 24 + hour) * 60 + minute) * 60 + second)


def _job(values: Sequence[str]) -> QueuedJob:
    field = dict(zip(_FIELDS, values, strict=True))
    task, reason = field["ArrayTaskID"], field["Reason"]
    return QueuedJob(
        # With several clusters their names stand on lines of their own.
        id=field["JobArrayID"].rpartition("\n")[2],
        array_task=int(task) if task.isdecimal() else None,
        name=field["Name"],
        run=_run(Path(field["Command"])),
        state=field["State"],
        reason="" if reason == "None" else reason,
        restarts=int(field["RestartCnt"]),
        submitted=_moment(field["SubmitTime"]),
        started=_moment(field["StartTime"]),
        elapsed_seconds=seconds(field["TimeUsed"]),
        limit_seconds=seconds(field["TimeLimit"]),
        nodes=field["NodeList"],
    )


def _run(script: Path) -> Path | None:
    is_ours = script.is_absolute() and script.match("slurm/*/job.sh")
    return script.parents[2] if is_ours else None


def _moment(written: str) -> datetime | None:
    try:
        return datetime.fromisoformat(written).astimezone()
    except ValueError:
        return None
