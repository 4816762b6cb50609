"""``python -m slurm.after``: what becomes of a job whose processes have ended.

The job script calls it and does what it prints: ``requeue``, ``requeue NODES`` (without those),
``end``, or ``end all`` (the tasks of an array that are to come too). What it says to the user goes
to stderr.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from launch.failure import MISTAKE, Failure, culprit, keep, kept
from launch.step_log import last_step
from pretrain.stop import FILE_NAME as STOP
from pretrain.stop import INTERRUPTED

RUNNING, UNKNOWN = "RUNNING", ""
NOBODY = -1
"""The rank of a failure that no node has told of."""
FROM_SIGNALS = 127
"""Exit codes from here on are the shell's and srun's own, for steps that were killed."""


@dataclass(frozen=True)
class Ending:
    """How the processes of a job ended.

    ``state`` is the job's in SLURM; ``restarts`` how often SLURM has started it again; ``warned``
    whether the script passed a signal on; ``follows`` whether another task of an array goes on;
    ``told_to_stop`` whether there is a STOP file that the run has not answered.
    """

    job: str
    code: int
    state: str
    restarts: int
    warned: bool
    follows: bool
    told_to_stop: bool
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Limits:
    """How often a job may start again, and whether without the node that failed."""

    requeues: int
    failures: int
    excludes: bool


@dataclass(frozen=True)
class Verdict:
    """Whether the job goes back into the queue, without which node, and a sentence on it."""

    requeue: bool
    say: str
    without: str = ""


class Cause(Enum):
    """Why the processes of a job ended."""

    DONE = auto()
    CANCELLED = auto()
    MISTAKE = auto()
    INTERRUPTED = auto()
    FAILURE = auto()


def cause(ending: Ending, here: Sequence[Failure]) -> Cause:
    """Why a job's processes ended; ``here`` are the failures of this start."""
    if ending.code == 0:
        return Cause.DONE
    if ending.state not in {RUNNING, UNKNOWN}:
        return Cause.CANCELLED
    if ending.code == MISTAKE or any(one.is_mistake for one in here):
        return Cause.MISTAKE
    # A signal that comes before the processes can listen kills them.
    killed = ending.warned and not here and ending.code >= FROM_SIGNALS
    return Cause.INTERRUPTED if killed or ending.code == INTERRUPTED else Cause.FAILURE


def judge(ending: Ending, failures: Sequence[Failure], limits: Limits) -> Verdict:
    """What becomes of a job; ``failures`` are those of all its starts."""
    here = [one for one in failures if one.start == ending.restarts]
    verdict = _judge(ending, failures, here, limits)
    if verdict.requeue and ending.told_to_stop:
        return Verdict(False, "not requeued: a STOP file asks the run to end")
    return verdict


def _judge(
    ending: Ending, failures: Sequence[Failure], here: Sequence[Failure], limits: Limits
) -> Verdict:
    match cause(ending, here):
        case Cause.DONE:
            return Verdict(False, "")
        case Cause.CANCELLED:
            return Verdict(False, f"SLURM ends this start itself ({ending.state})")
        case Cause.MISTAKE:
            return Verdict(False, "not requeued: mend the mistake that is named above")
        case Cause.INTERRUPTED:
            return _interrupted(ending, failures, limits)
        case Cause.FAILURE:
            return _failed(ending, failures, culprit(here), limits)


def _interrupted(ending: Ending, failures: Sequence[Failure], limits: Limits) -> Verdict:
    if ending.follows:
        return Verdict(False, "interrupted: the next task of the array goes on")
    before = ending.restarts - len({one.start for one in failures if one.start < ending.restarts})
    if before >= limits.requeues:
        return Verdict(
            False, f"not requeued: that was done {before} times, --max-requeues {limits.requeues}"
        )
    return Verdict(True, f"interrupted: requeued, for the {_nth(before + 1)} time")


def _failed(ending: Ending, failures: Sequence[Failure], found: Failure, limits: Limits) -> Verdict:
    starts = sorted({one.start for one in failures if one.start < ending.restarts})
    if starts:
        last = culprit([one for one in failures if one.start == starts[-1]])
        if last.step == found.step:
            return Verdict(
                False,
                f"not requeued: it failed twice in a row after step {found.step}, which another "
                "start will not mend",
            )
    if len(starts) >= limits.failures:
        return Verdict(
            False,
            f"not requeued: it failed {len(starts) + 1} times, --max-failures {limits.failures}",
        )
    without = ",".join(suspects(ending, failures)) if limits.excludes else ""
    words = f" without {without}" if without else ""
    return Verdict(
        True, f"requeued{words} after failure {len(starts) + 1} of {limits.failures}", without
    )


def suspects(ending: Ending, failures: Sequence[Failure]) -> list[str]:
    """The nodes that may be at fault for this start's failure.

    That of the process that failed; where all only hung or lost the connection, those that said
    nothing.
    """
    here = [one for one in failures if one.start == ending.restarts and one.rank != NOBODY]
    if here and not all(one.is_echo or one.is_hang for one in here):
        return [culprit(here).host]
    told = {one.host for one in here}
    silent = [node for node in ending.nodes if node not in told]
    return silent if told else []


def _nth(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in {11, 12, 13} else ending}"


def report(run_folder: Path, found: Failure, nodes: Sequence[str]) -> str:
    """Which process failed, where the run stood, what it said last, and which nodes are suspect."""
    if found.rank == NOBODY:
        return f"the job's step ended with exit code {found.exit_code} and no node said why"
    what = "hung" if found.is_hang else "failed"
    lines = [f"the run {what} after step {found.step}: {found.describe(run_folder)}"]
    if found.lines:
        lines += ["its last lines were:", *(f"    {line}" for line in found.lines)]
    if nodes and found.host not in nodes:
        lines.append(f"it may have waited for node {', '.join(nodes)}, which said nothing")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Print the verdict; 0."""
    given = _parser().parse_args(arguments)
    run_folder = Path(given.run)
    ending = Ending(
        job=given.job,
        code=given.code,
        state=given.state,
        restarts=given.restarts,
        warned=bool(given.warned),
        follows=given.tasks_left > 0,
        told_to_stop=(run_folder / STOP).exists(),
        nodes=tuple(given.nodes.split()),
    )
    limits = Limits(given.max_requeues, given.max_failures, given.exclude_failed)
    failures = [one for one in kept(run_folder) if one.job == ending.job]
    here = [one for one in failures if one.start == ending.restarts]
    why = cause(ending, here)
    if why is Cause.FAILURE and not here:
        here = [_untold(ending, run_folder)]
        keep(here[0], run_folder)
        failures += here
    if here:
        print(report(run_folder, culprit(here), suspects(ending, failures)), file=sys.stderr)
    verdict = judge(ending, failures, limits)
    if verdict.say:
        print(f"job {ending.job}: {verdict.say}", file=sys.stderr, flush=True)
    (run_folder / STOP).unlink(missing_ok=True)
    goes_on = why in {Cause.INTERRUPTED, Cause.CANCELLED} and not ending.told_to_stop
    print(told(verdict, given.without, ends_all=ending.follows and not goes_on))
    return 0


def told(verdict: Verdict, without: str, *, ends_all: bool) -> str:
    """The word for the script; ``without`` are the nodes that are excluded already."""
    if not verdict.requeue:
        return "end all" if ends_all else "end"
    before = [] if without in {"", "(null)"} else [without]
    return f"requeue {','.join([*before, verdict.without])}" if verdict.without else "requeue"


def _untold(ending: Ending, run_folder: Path) -> Failure:
    """What is kept of a failure that no node has told of, such as a container without an image."""
    return Failure(
        rank=NOBODY,
        host="",
        pid=0,
        exit_code=ending.code,
        step=last_step(run_folder),
        lines=(),
        time=time.time(),
        job=ending.job,
        start=ending.restarts,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m slurm.after", description=__doc__)
    parser.add_argument("run", help="the run's folder")
    parser.add_argument("--job", required=True)
    parser.add_argument("--code", type=int, required=True, help="srun's exit code")
    parser.add_argument("--state", required=True, help="the job's state in SLURM")
    parser.add_argument("--restarts", type=int, default=0, help="SLURM_RESTART_COUNT")
    parser.add_argument("--warned", default="", help="anything if a signal was passed on")
    parser.add_argument("--tasks-left", type=int, default=0, help="of an array, after this one")
    parser.add_argument("--nodes", default="", help="the job's, separated by spaces or lines")
    parser.add_argument("--without", default="", help="nodes that are excluded already")
    parser.add_argument("--max-requeues", type=int, required=True)
    parser.add_argument("--max-failures", type=int, required=True)
    parser.add_argument("--exclude-failed", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
