"""How long before its time limit a job is warned, and whether that suffices."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

from launch.last_lines import last_lines
from shards.errors import UserError

USUAL_SECONDS = 300
MOST_OF_LIMIT = 0.2
"""The share of a time limit that the usual lead may take."""
SPARE = 1.5
"""How much longer than the longest seen a step, a validation and a save may take."""
START_SECONDS = 30
"""For SLURM's message, the launchers' end and the requeue."""
MOST_SECONDS = 65535
"""The earliest warning that sbatch takes (man sbatch, --signal)."""
EARLY_SECONDS = 60
"""How much earlier than asked SLURM may send it (ibid.)."""
RECENT = 200
"""Records of each kind that are looked at."""


def seconds_of(limit: str) -> int:
    """A time limit in sbatch's notation in seconds; UserError for anything else.

    ``M``, ``M:S``, ``H:M:S``, ``D-H``, ``D-H:M`` and ``D-H:M:S`` (man sbatch, --time).
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", limit)
    if not found:
        raise UserError(
            f"--time {limit!r} is no time limit; write it as 24:00:00, 2-00:00 or 90 (minutes)"
        )
    days, *rest = found.groups()
    numbers = [int(number) for number in rest if number is not None]
    if days is None:
        numbers = {1: [0, *numbers], 2: [0, *numbers], 3: numbers}[len(numbers)]
    hours, minutes, seconds = [*numbers, 0, 0][:3]
    total = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    if total == 0:
        raise UserError("--time 0: it would never end; give a limit such as 24:00:00")
    return total


def lead_of(asked: int | None, limit: str, run_folder: Path) -> tuple[int, str]:
    """Seconds before ``limit`` at which the job is warned, and a word where that is news.

    They are raised to what the run's own records ask for, as far as SLURM takes it. UserError where
    nothing would be left to train in.
    """
    total, took = seconds_of(limit), longest(run_folder)
    chosen = asked or min(USUAL_SECONDS, int(total * MOST_OF_LIMIT))
    lead = max(chosen, min(needed(took), MOST_SECONDS))
    why = f"this run's longest step, validation and save took {took:.0f} s together"
    if lead >= total:
        enough = f"give it --time {_least(lead)} or more"
        raise UserError(
            f"--time {limit}: the job would be warned {lead} s before its end, which leaves no "
            "time to train; "
            + (f"{why}: {enough}" if lead > chosen else f"{enough}, or a smaller --lead")
        )
    if lead == chosen:
        return lead, ""
    return lead, f"the warning comes {lead} s before the time limit instead of {chosen} s: {why}"


def longest(run_folder: Path) -> float:
    """Seconds that the longest step, validation and save of this run took, summed.

    0 for a run that has not trained yet.
    """
    names = ("log.jsonl", "validation.jsonl", "saves.jsonl")
    return sum(max(_seconds(run_folder / name), default=0.0) for name in names)


def needed(took: float) -> int:
    """The lead in seconds for a run whose `longest` is ``took``, with some to spare."""
    if took == 0:
        return 0
    return math.ceil((took * SPARE + START_SECONDS) / 10) * 10


def _least(lead: int) -> str:
    """The least time limit, in SLURM's whole minutes, that leaves time before the warning."""
    hours, minutes = divmod((lead + EARLY_SECONDS) // 60 + 1, 60)
    return f"{hours:02d}:{minutes:02d}:00"


def _seconds(path: Path) -> Iterator[float]:
    for line in last_lines(path, RECENT):
        try:
            yield float(json.loads(line)["seconds"])
        except (ValueError, KeyError, TypeError):
            continue
