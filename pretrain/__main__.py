"""One process of a run: ``accelerate launch ... -m pretrain CONFIG [key.sub=value ...]``."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pretrain.config import load
from pretrain.stop import StopRequest, die_with_parent
from shards.errors import UserError

if TYPE_CHECKING:
    from pretrain.loop import Outcome

USAGE = "usage: [accelerate launch ...] -m pretrain CONFIG.yaml [key.sub=value ...]"


def main(arguments: list[str]) -> int:
    """Train what the arguments describe; 2 for a user's mistake, said once by rank 0."""
    is_first = os.environ.get("RANK", "0") == "0"
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(USAGE)
        return 0 if arguments else 2
    try:
        run(Path(arguments[0]), arguments[1:])
    except UserError as mistake:
        if is_first:
            print(f"error: {mistake}", file=sys.stderr, flush=True)
        return 2
    return 0


def run(path: Path, overrides: list[str]) -> None:
    """Check the configuration, join the other processes, train."""
    config = load(path, overrides)
    stop = StopRequest(config.run.folder)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        die_with_parent()
    from pretrain.preflight import check, choose_device

    device = choose_device(config.device, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    ready = check(config, world_size=world_size, device=device, environ=os.environ)
    quiet_libraries()
    from pretrain.engine import Processes
    from pretrain.loop import train

    processes = Processes.join(ready.device)
    try:
        outcome = train(config, ready, processes, stop, say if processes.rank == 0 else _silent)
    finally:
        processes.leave()
    if processes.rank == 0:
        say(_ending(config.run.name, outcome))


def quiet_libraries() -> None:
    """Warnings and errors only from the libraries below us."""
    os.environ.setdefault("DS_LOG_LEVEL", "error")
    for name in ("accelerate", "deepspeed", "DeepSpeed", "torch.distributed", "torch.utils"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _ending(name: str, outcome: Outcome) -> str:
    if outcome.stopped:
        return f"run {name} stopped at step {outcome.step} as asked; the same command resumes it"
    return f"run {name} is at step {outcome.step}, its target"


def say(text: str) -> None:
    """A line on the terminal, at once."""
    print(text, flush=True)


def _silent(_text: str) -> None:
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
