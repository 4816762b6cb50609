"""``segue launch``: check a run, build its accelerate command, show it, run it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from launch.accelerate import Command, local_command, search_path


def launch(config_path: Path, overrides: Sequence[str], processes: int) -> int:
    """Train on this machine; returns the exit code. UserError before anything starts."""
    print(f"checking {config_path}", flush=True)
    from pretrain.config import load
    from pretrain.preflight import check

    config = load(config_path, overrides)
    ready = check(config, world_size=processes, local_size=processes, environ={})
    command = local_command(
        config_path, overrides, processes=processes, device=ready.device, zero=ready.zero
    )
    print(command, flush=True)
    return run(command, config.run.folder)


def run(command: Command, run_folder: Path) -> int:
    """Run ``command`` to its end.

    The first Ctrl-C or SIGTERM asks the run, by its STOP file, to save and stop after the current
    step; a second one ends it at once.
    """
    from pretrain.stop import FILE_NAME

    environment = {**os.environ, **command.environment, "PATH": search_path()}
    stop = run_folder / FILE_NAME
    stop.unlink(missing_ok=True)
    # In a session of its own: the launcher would answer the terminal's Ctrl-C with a traceback.
    child = subprocess.Popen(command.arguments, env=environment, start_new_session=True)

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        if stop.exists() or not run_folder.is_dir():
            os.killpg(child.pid, signal.SIGTERM)
        else:
            stop.touch()
            print("stopping after this step, with a checkpoint; again to end at once", flush=True)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask_to_stop)
    return child.wait()
