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
    return run(command)


def run(command: Command) -> int:
    """Run ``command`` to its end, passing on the signals that ask it to stop."""
    environment = {**os.environ, **command.environment, "PATH": search_path()}
    child = subprocess.Popen(command.arguments, env=environment)

    def pass_on(number: int, _frame: FrameType | None) -> None:
        child.send_signal(number)

    # Ctrl-C reaches the child by itself: it is in the terminal's process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, pass_on)
    return child.wait()
