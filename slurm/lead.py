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

    They are raised to what the run's own records ask for. UserError where nothing would be left
    to train in.
    """
    total, measured = seconds_of(limit), needed(run_folder)
    lead, word = asked or min(USUAL_SECONDS, int(total * MOST_OF_LIMIT)), ""
    if measured > lead:
        word = (
            f"the warning comes {measured} s before the time limit instead of {lead} s: this run's "
            "longest step, validation and save took that"
        )
        lead = measured
    if lead >= total:
        raise UserError(
            f"--time {limit}: the job would be warned {lead} s before its end, which leaves no "
            "time to train; give it more time or a smaller --lead"
        )
    return lead, word


def needed(run_folder: Path) -> int:
    """Seconds that a step, a validation and a save of this run took at most, with some to spare.

    0 for a run that has not trained yet.
    """
    names = ("log.jsonl", "validation.jsonl", "saves.jsonl")
    longest = [max(_seconds(run_folder / name), default=0.0) for name in names]
    if not any(longest):
        return 0
    return math.ceil((sum(longest) * SPARE + START_SECONDS) / 10) * 10


def _seconds(path: Path) -> Iterator[float]:
    for line in last_lines(path, RECENT):
        try:
            yield float(json.loads(line)["seconds"])
        except (ValueError, KeyError, TypeError):
            continue
