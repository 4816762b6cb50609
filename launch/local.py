"""``segue launch``: check a run, build its accelerate command, show it, run it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from launch.accelerate import LAUNCHER, Command, Meeting, launch_command, search_path
from pretrain.stop import FILE_NAME, INTERRUPTED, SAVE_FILE_NAME, SIGNALS
from shards.errors import UserError
from shards.processes import die_with_parent


def launch(
    config_path: Path,
    overrides: Sequence[str],
    processes: int,
    meeting: Meeting | None = None,
) -> int:
    """Train on this machine, or on it and others that ``meeting`` names; returns the exit code.

    UserError before anything starts.
    """
    print(f"checking {config_path}", flush=True)
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
    return run(command, config.run.folder)


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

    The first Ctrl-C, SIGTERM or SIGUSR1 asks the run to save and stop after the current step; a
    second one ends it at once.
    """
    environment = {**os.environ, **command.environment, "PATH": search_path()}
    run_folder.mkdir(parents=True, exist_ok=True)
    for name in (FILE_NAME, SAVE_FILE_NAME):  # they were meant for the start before
        (run_folder / name).unlink(missing_ok=True)
    words = [str(run_folder), *command.arguments[len(LAUNCHER) :]]
    child = subprocess.Popen(
        [sys.executable, "-m", "launch.node", *words],
        env=environment,
        preexec_fn=_tie_to_parent,  # noqa: PLW1509 - this process has one thread
    )
    asked = threading.Event()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        child.send_signal(signal.SIGKILL if asked.is_set() else signal.SIGUSR1)
        asked.set()

    for number in SIGNALS:
        signal.signal(number, ask_to_stop)
    code = child.wait()
    if code == -signal.SIGUSR1:  # it was asked before it could listen: nothing had begun
        return INTERRUPTED
    return code if code >= 0 else 128 - code


def _tie_to_parent() -> None:
    die_with_parent()
    # A terminal's Ctrl-C reaches the launcher too: this process tells it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
