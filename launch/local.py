"""``segue launch``: check a run, build its accelerate command, show it, run it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from launch.accelerate import LAUNCHER, Command, local_command, search_path
from pretrain.stop import FILE_NAME, SIGNALS
from shards.processes import die_with_parent


def launch(config_path: Path, overrides: Sequence[str], processes: int) -> int:
    """Train on this machine; returns the exit code. UserError before anything starts."""
    print(f"checking {config_path}", flush=True)
    from pretrain.config import load
    from pretrain.preflight import check, choose_device

    config = load(config_path, overrides)
    device = choose_device(config.device, processes)
    ready = check(config, world_size=processes, device=device, environ={})
    command = local_command(
        config_path, overrides, processes=processes, device=device, zero=ready.zero
    )
    print(command, flush=True)
    return run(command, config.run.folder)


def run(command: Command, run_folder: Path) -> int:
    """Run what ``command`` stands for to its end, and never let it outlive this process.

    The first Ctrl-C, SIGTERM or SIGUSR1 asks the run, by its STOP file, to save and stop after the
    current step; a second one ends it at once.
    """
    environment = {
        **os.environ,
        **command.environment,
        "PATH": search_path(),
        "PET_SIGNALS_TO_HANDLE": "SIGTERM",  # torch's launcher: not SIGINT, see _tie_to_parent
    }
    run_folder.mkdir(parents=True, exist_ok=True)
    stop = run_folder / FILE_NAME
    stop.unlink(missing_ok=True)
    child = subprocess.Popen(
        [sys.executable, "-m", "launch.node", *command.arguments[len(LAUNCHER) :]],
        env=environment,
        preexec_fn=_tie_to_parent,  # noqa: PLW1509 - this process has one thread
    )

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        if stop.exists():
            child.terminate()
        else:
            stop.touch()

    for number in SIGNALS:
        signal.signal(number, ask_to_stop)
    return child.wait()


def _tie_to_parent() -> None:
    die_with_parent()
    # A terminal's Ctrl-C reaches the launcher too; it would answer with a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
