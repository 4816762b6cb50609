"""``python -m launch.node RUN_FOLDER ...``: one node's ``accelerate launch`` of a run.

After the folder come accelerate's own arguments. It passes a request to stop on to its processes,
keeps what they write on stderr, and says of a failure which process it was instead of accelerate's
traceback. Its exit code is the processes': 0, 2 for a user's mistake, 75 where they were stopped by
a signal; 1 for anything else.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sys
import threading
import time
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import psutil

from launch.failure import MISTAKE, Failure, culprit, failure_here, keep
from pretrain.chatter import is_verbose, keep_out
from pretrain.stop import INTERRUPTED

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

LOG_FOLDER = "logs"
LOOK_SECONDS = 0.1


class Forwarding:
    """Hands SIGTERM and SIGUSR1, each a request to stop, on to this node's processes as SIGUSR1.

    They stop after the step, save, and leave with INTERRUPTED. What comes before they have been
    started reaches them then.
    """

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        threading.Thread(target=self._forward, daemon=True, name="forward a signal").start()

    def _forward(self) -> None:
        while not (ranks := [one for one in psutil.Process().children() if _is_rank(one)]):
            time.sleep(LOOK_SECONDS)
        for rank in ranks:
            with suppress(psutil.NoSuchProcess):
                rank.send_signal(signal.SIGUSR1)


def _is_rank(child: psutil.Process) -> bool:
    """Whether it trains; accelerate starts other programs too, to look at the machine."""
    try:
        return "LOCAL_RANK" in child.environ()
    except psutil.Error:
        return False


def main(arguments: list[str]) -> int:
    """Start this node's processes and wait for them; the exit code."""
    run_folder, *words = arguments
    forwarding = Forwarding()
    keep_out()
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError

    _quiet_elastic()
    logs = Path(run_folder, LOG_FOLDER, f"{os.uname().nodename}-{os.getpid()}")
    args = launch_command_parser().parse_args(words)
    args.tee, args.log_dir = _prefixed(args), str(logs)
    try:
        if int(args.num_machines or 1) > 1:
            args.local_addr = own_address(args.main_process_ip, int(args.machine_rank))
        launch_command(args)
        code = 0
    except (ConnectionError, socket.gaierror, RendezvousError) as error:
        return apart(error, args)
    except ChildFailedError as failed:
        code = ended(failed, Path(run_folder), logs, forwarding.asked)
    if code != 1:
        shutil.rmtree(logs, ignore_errors=True)
        with suppress(OSError):  # another node's are there
            logs.parent.rmdir()
    return code


def _quiet_elastic() -> None:
    # What they log of a failure is said by `ended`, and signals are `Forwarding`'s.
    if not is_verbose():
        logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
        for name in ("api", "errors"):
            logger = logging.getLogger(f"torch.distributed.elastic.multiprocessing.{name}")
            logger.setLevel(logging.CRITICAL)
    os.environ["PET_SIGNALS_TO_HANDLE"] = "SIGQUIT"
    host = os.uname().nodename.replace("$", "$$")
    os.environ.setdefault("TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE", f"[rank ${{rank}} on {host}] ")


def _prefixed(args: Namespace) -> str:
    """Of each local rank, which streams are shown with rank and host: 2 is stderr, 3 both.

    Rank 0 prints the run's own lines, without.
    """
    machines, node_rank = int(args.num_machines or 1), int(args.machine_rank or 0)
    first = "2" if node_rank == 0 else "3"
    others = range(1, int(args.num_processes or 1) // machines)
    return ",".join([f"0:{first}", *(f"{local}:3" for local in others)])


def own_address(head: str, node_rank: int) -> str:
    """The address by which the other nodes reach this one: that of its way to ``head``.

    OSError where ``head`` has no address.
    """
    if node_rank == 0:
        return head
    family, kind, _, _, place = socket.getaddrinfo(head, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(place)  # sends nothing
        return str(probe.getsockname()[0])


def apart(error: Exception, args: Namespace) -> int:
    """Say that the nodes did not meet, or lost one another; the exit code."""
    place = f"{args.main_process_ip}:{args.main_process_port}"
    who, why = f"node {args.machine_rank} of {args.num_machines}", " ".join(str(error).split())
    mends = "; name an address of node 0 that all reach"
    is_mistake = isinstance(error, socket.gaierror)
    say = f"error: {who} does not meet the others at {place}: {why}{mends if is_mistake else ''}"
    print(say, file=sys.stderr, flush=True)
    return MISTAKE if is_mistake else 1


def ended(failed: ChildFailedError, run_folder: Path, logs: Path, asked: bool) -> int:
    """The exit code for processes that did not end with 0; a failure is kept and told."""
    codes = {failure.exitcode for failure in failed.failures.values()}
    early = {-signal.SIGUSR1, -signal.SIGTERM} if asked else set()  # before they could listen
    if codes <= {INTERRUPTED, *early}:
        return INTERRUPTED
    found = culprit(_failures(failed, run_folder, logs))
    keep(found, run_folder)
    if found.is_mistake:  # it has told of that itself
        return MISTAKE
    print(f"error: {found.describe(run_folder)}", file=sys.stderr, flush=True)
    return 1


def _failures(failed: ChildFailedError, run_folder: Path, logs: Path) -> list[Failure]:
    return [
        failure_here(
            run_folder,
            rank=rank,
            pid=one.pid,
            exit_code=one.exitcode,
            stderr=next(logs.glob(f"*/*/{one.local_rank}/stderr.log"), logs),
        )
        for rank, one in failed.failures.items()
        if one.exitcode != INTERRUPTED
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
