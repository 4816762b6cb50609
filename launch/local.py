"""``segue launch``: check a run, build its accelerate command, show it, run it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from launch.accelerate import LAUNCHER, Command, Meeting, launch_command, search_path
from launch.display import Display
from launch.screen import follow, is_terminal
from pretrain.chatter import VERBOSE
from pretrain.config import MOST_EPOCHS, TrainConfig
from pretrain.metrics.progress import DRAWN
from pretrain.stop import FILE_NAME, INTERRUPTED, SAVE_FILE_NAME, SIGNALS
from shards.errors import UserError
from shards.processes import die_with_parent

STOPS = "asked to stop: the run saves after this step and ends; once more ends it at once"


def launch(
    config_path: Path,
    overrides: Sequence[str],
    processes: int,
    meeting: Meeting | None = None,
    *,
    verbose: bool = False,
) -> int:
    """Train on this machine, or on it and others that ``meeting`` names; returns the exit code.

    ``verbose`` lets through what libraries say. UserError before anything starts.
    """
    if verbose:
        os.environ[VERBOSE] = "1"
    print(f"checking {config_path}", flush=True)
    from launch.summary import Ended, show
    from pretrain.config import load
    from pretrain.preflight import check, choose_device

    config = load(config_path, overrides)
    device = choose_device(config.device, processes)
    world_size = processes * (meeting.nodes if meeting else 1)
    ready = check(config, world_size=world_size, device=device, environ={})
    command = launch_command(
        config_path,
        overrides,
        processes=processes,
        device=device,
        zero=ready.zero,
        meeting=meeting,
    )
    print(command, flush=True)
    since = time.time()
    code = run(command, config.run.folder)
    if meeting is None or meeting.rank == 0:
        again = again_words(config_path, overrides, processes, meeting, verbose=verbose)
        show(Ended(config.run.folder, since, code, again, further(config.train)), Console())
    return code


def again_words(
    config_path: Path,
    overrides: Sequence[str],
    processes: int,
    meeting: Meeting | None,
    *,
    verbose: bool,
) -> list[str]:
    """The ``segue launch`` command that was given."""
    words = ["segue", "launch", str(config_path), *overrides, "--nproc", str(processes)]
    if meeting:
        words += ["--nodes", str(meeting.nodes), "--node-rank", str(meeting.rank)]
        words += ["--head", meeting.head, "--port", str(meeting.port)]
    return [*words, "--verbose"] if verbose else words


def further(train: TrainConfig) -> list[str]:
    """Settings that take a run to twice its target."""
    steps = [f"train.steps={2 * train.steps}"] if train.steps else []
    epochs = train.epochs or (None if train.steps else MOST_EPOCHS)
    return [*steps, f"train.epochs={2 * epochs:g}"] if epochs else steps


def meeting(nodes: int, rank: int, head: str | None, port: int) -> Meeting | None:
    """Where ``nodes`` machines meet, None for one alone. UserError for what does not fit."""
    if nodes == 1:
        if rank or head:
            raise UserError("--node-rank and --head are of several machines; add --nodes N")
        return None
    if head is None:
        raise UserError(f"--nodes {nodes} needs --head HOST: machine 0, as all reach it")
    if rank >= nodes:
        raise UserError(
            f"--node-rank {rank} of --nodes {nodes}: machines are numbered from 0 to {nodes - 1}"
        )
    return Meeting(nodes, rank, head, port)


def run(command: Command, run_folder: Path) -> int:
    """Run what ``command`` stands for to its end, and never let it outlive this process.

    On a terminal this process alone writes there, and draws the progress. The first Ctrl-C, SIGTERM
    or SIGUSR1 asks the run to save and stop after the current step; a second one ends it at once.
    """
    run_folder.mkdir(parents=True, exist_ok=True)
    for name in (FILE_NAME, SAVE_FILE_NAME):  # they were meant for the start before
        (run_folder / name).unlink(missing_ok=True)
    words = [str(run_folder), *command.arguments[len(LAUNCHER) :]]
    draws = is_terminal(sys.stdout)
    drawn = {DRAWN: "1"} if draws else {}
    child = subprocess.Popen(
        [sys.executable, "-m", "launch.node", *words],
        env={**os.environ, **command.environment, **drawn, "PATH": search_path()},
        stdout=subprocess.PIPE if draws else None,
        stderr=subprocess.PIPE if draws and is_terminal(sys.stderr) else None,
        preexec_fn=_tie_to_parent,  # noqa: PLW1509 - this process has one thread
    )
    asked = _Asked(child)
    if draws:
        with Display(Console()) as display:
            code = follow(child, display, asked.told)
    else:
        code = child.wait()
    if code == -signal.SIGUSR1:  # it was asked before it could listen: nothing had begun
        return INTERRUPTED
    return code if code >= 0 else 128 - code


class _Asked:
    """Passes what this process is asked for on to its child: to stop, the second time at once."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child, self._times, self._told = child, 0, 0
        for number in SIGNALS:
            signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._child.send_signal(signal.SIGKILL if self._times else signal.SIGUSR1)
        self._times += 1

    def told(self) -> str | None:
        """A line on the request, once."""
        if self._times == self._told:
            return None
        self._told = self._times
        return STOPS if self._times == 1 else None


def _tie_to_parent() -> None:
    die_with_parent()
    # A terminal's Ctrl-C reaches the launcher too: this process tells it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
