"""``python -m launch.node``: what ``accelerate launch`` does, and a word instead of its traceback.

It takes the same arguments. A user's mistake, which a process has told, gives exit code 2; any
other failure names the rank that failed first and gives 1.
"""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

MISTAKE = 2


def main(arguments: list[str]) -> int:
    """Start this node's processes and wait for them; the exit code."""
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # What they log of a failure is said below.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    for name in ("api", "errors"):
        logger = logging.getLogger(f"torch.distributed.elastic.multiprocessing.{name}")
        logger.setLevel(logging.CRITICAL)
    try:
        launch_command(launch_command_parser().parse_args(arguments))
    except ChildFailedError as failed:
        return reported(failed)
    return 0


def reported(failed: ChildFailedError) -> int:
    """Say which rank failed first and how, unless it has said so itself; the exit code."""
    rank, first = failed.get_first_failure()
    if first.exitcode == MISTAKE:
        return MISTAKE
    how = (
        f"was ended by {signal.Signals(-first.exitcode).name}"
        if first.exitcode < 0
        else f"ended with exit code {first.exitcode}"
    )
    print(f"error: rank {rank} (pid {first.pid}) {how}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
