"""What is known of a process that failed: kept in the run folder, told in the job's last lines."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from launch.last_lines import last_lines, records
from launch.step_log import last_step
from pretrain.watch import FOLDER_NAME as HANG_FOLDER

FILE_NAME = "failures.jsonl"
MISTAKE = 2
"""The exit code of a process that has told the user of a mistake."""
MOST_LINES = 20
"""Lines of a failed process's stderr that are kept."""
_LOST = re.compile(
    r"connection closed|connection reset|connection refused|broken pipe|socket timeout|"
    r"remote process exited|ncclRemoteError|ncclSystemError|timed out",
    re.IGNORECASE,
)


class Failure(BaseModel, frozen=True):
    """One process of a run that failed.

    ``job`` and ``start`` are SLURM's job and how often it had started it again, "" and 0 without;
    ``step`` is the last one that the run had logged, 0 for none. ``exit_code`` is negative for the
    signal that ended it. ``lines`` are the last ones of its stderr.
    """

    rank: int
    host: str
    pid: int
    exit_code: int
    step: int
    lines: tuple[str, ...]
    time: float
    job: str = ""
    start: int = 0

    @property
    def is_mistake(self) -> bool:
        """Whether it ended on a mistake of the user's."""
        return self.exit_code == MISTAKE

    @property
    def is_hang(self) -> bool:
        """Whether the watch on hangs ended it."""
        return self.exit_code == -signal.SIGALRM

    @property
    def is_echo(self) -> bool:
        """Whether it only says that another process was gone."""
        return self.exit_code > 0 and any(_LOST.search(line) for line in self.lines)

    def describe(self, run_folder: Path) -> str:
        """A line of which process it was and how it ended."""
        who = f"rank {self.rank} on {self.host} (pid {self.pid})"
        if self.is_hang:
            return (
                f"{who} made no step in the time that train.hang_timeout or train.start_timeout "
                f"gives; {run_folder / HANG_FOLDER} says where each rank was"
            )
        if self.exit_code < 0:
            return f"{who} was ended by {signal.Signals(-self.exit_code).name}"
        return f"{who} ended with exit code {self.exit_code}"


def place() -> tuple[str, str, int]:
    """This node's name, SLURM's job ("" without) and how often it was started again."""
    environ = os.environ
    host = environ.get("SLURMD_NODENAME") or socket.gethostname()
    return host, environ.get("SLURM_JOB_ID", ""), int(environ.get("SLURM_RESTART_COUNT") or 0)


def failure_here(run_folder: Path, *, rank: int, pid: int, exit_code: int, stderr: Path) -> Failure:
    """What is known of a process of this node that has just failed."""
    host, job, start = place()
    lines = [line.decode(errors="replace") for line in last_lines(stderr, MOST_LINES)]
    step = last_step(run_folder)
    return Failure(
        rank=rank,
        host=host,
        pid=pid,
        exit_code=exit_code,
        step=step,
        lines=tuple(lines),
        time=time.time(),
        job=job,
        start=start,
    )


def culprit(failures: Sequence[Failure]) -> Failure:
    """The one of a start's failures that the others follow from, as far as can be told.

    A process that tells of a mistake comes before one that a signal ended, that before one that
    raised an error, that before those which hung, as all do when one does, and those before the
    ones that lost the connection to another; an earlier one before a later one.
    """
    return min(failures, key=lambda one: (_doubt(one), one.time, one.rank))


def _doubt(failure: Failure) -> int:
    if failure.is_mistake:
        return 0
    if failure.is_echo or failure.exit_code == -signal.SIGTERM:
        return 4
    if failure.is_hang:
        return 3
    return 1 if failure.exit_code < 0 else 2


def keep(failure: Failure, run_folder: Path) -> None:
    """Append to the run folder's list; all nodes of a job may do so at once."""
    path = run_folder / FILE_NAME
    before = path.read_bytes() if path.exists() else b""
    begin = "" if before.endswith(b"\n") or not before else "\n"  # a kill left half a line
    with path.open("ab", buffering=0) as file:
        file.write(f"{begin}{failure.model_dump_json()}\n".encode())


def kept(run_folder: Path) -> list[Failure]:
    """All failures of a run, oldest first."""
    path = run_folder / FILE_NAME
    return list(records(Failure, path.read_bytes().splitlines() if path.exists() else ()))
