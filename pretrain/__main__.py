"""One process of a run: ``accelerate launch ... -m pretrain CONFIG [key.sub=value ...]``."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import IO, TYPE_CHECKING

from pretrain.chatter import keep_out, silence_stdout
from pretrain.config import Config, load
from pretrain.lock import InUseError, hold
from pretrain.stop import INTERRUPTED, StopRequest
from pretrain.watch import Watch, new_folder
from shards.errors import sentence
from shards.processes import die_with_parent

if TYPE_CHECKING:
    from pretrain.preflight import Ready

PATIENCE = 10.0
"""Seconds that the first process of a machine has to find the mistake that another has found."""
JOB_PATIENCE = 120.0
"""Seconds that a job waits for the run's folder.

Processes of a lost node or of a cancelled job may take so long to end after SLURM has given the
next job its nodes.
"""
USAGE = "usage: [accelerate launch ...] -m pretrain CONFIG.yaml [key.sub=value ...]"


def main(arguments: list[str]) -> int:
    """Train what the arguments describe; the exit code: 2 for a user's mistake, 75 for a signal.

    What all ranks of a machine see alike its first says; what one rank meets alone it says itself,
    after `PATIENCE`.
    """
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(USAGE)
        return 0 if arguments else 2
    keep_out()
    if os.environ.get("RANK", "0") != "0":
        silence_stdout()
    is_first_here = os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        config = load(Path(arguments[0]), arguments[1:])
        stop = StopRequest(config.run.folder, watches=os.environ.get("RANK", "0") == "0")
        ready = check_here(config)
    except Exception as error:
        return _tell(error, aloud=is_first_here)
    try:
        return run(config, ready, stop)
    except SystemExit as left:  # another rank says why
        return int(left.code or 0)
    except Exception as error:
        return _tell(error, aloud=is_first_here)


def _tell(error: Exception, *, aloud: bool) -> int:
    said = sentence(error)
    if said is None:
        traceback.print_exception(error)
        return 1
    if aloud or not _is_ended():
        print(f"error: {said}", file=sys.stderr, flush=True)
    return 2


def _is_ended() -> bool:
    """Whether the launcher ends this process soon: the first of the machine has left then.

    Had this one left before it, the launcher would have ended the first with its mistake unsaid.
    """
    asked = Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    return asked.wait(PATIENCE)


def check_here(config: Config) -> Ready:
    """What `preflight.check` says of this process's place in the run."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        die_with_parent()
    from pretrain.preflight import check, choose_device

    device = choose_device(config.device, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    return check(config, world_size=world_size, device=device, environ=os.environ)


def run(config: Config, ready: Ready, stop: StopRequest) -> int:
    """Join the other processes and train; the exit code."""
    from pretrain.engine import join
    from pretrain.loop import train

    folder, limits = config.run.folder, config.train
    longest = max(limits.start_timeout, limits.hang_timeout)
    processes = join(ready.device, timedelta(seconds=longest))
    in_job = "SLURM_JOB_ID" in os.environ
    held: list[IO[str]] = []  # rank 0's lock on the folder lasts as long as its process

    def take_folder() -> Path | None:
        try:
            held.append(hold(folder, JOB_PATIENCE if in_job else 0.0, say))
        except InUseError as error:
            if not in_job:
                raise
            say(f"{error}; the job is to start again")
            return None
        return new_folder(folder)

    hangs = processes.first(take_folder)
    if hangs is None:
        return INTERRUPTED
    with Watch(
        hangs,
        processes.rank,
        start_seconds=limits.start_timeout,
        hang_seconds=limits.hang_timeout,
    ) as watch:
        return train(config, ready, processes, stop, watch, _silent if processes.rank else say)


def say(text: str) -> None:
    """A line on the terminal, at once."""
    print(text, flush=True)


def _silent(_text: str) -> None:
    return None


if __name__ == "__main__":
    code = main(sys.argv[1:])
    from pretrain.processes import end_process

    end_process(code)
