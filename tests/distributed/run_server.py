"""Processes of runs, forked off one that has imported everything: a start takes a second, not ten.

As a program it takes a JSON object a line (`Started` writes them) and answers with the pid of a
process that stands for `accelerate launch`: it starts the ranks in a process group of its own,
ends all of them when one fails, and leaves its and their exit codes in the file ``done``.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from launch.accelerate import free_port, process_environment
from shards.processes import die_with_parent

# What a run imports on its way, in the order in which it works.
IMPORTED = (
    "torch",
    "pretrain.loop",
    "torch._dynamo",
    "torch._inductor.compile_fx",
    "torch.utils.tensorboard",
    "deepspeed.runtime.zero.muon.original_muon",
    "transformers",
    "accelerate",
)


def import_everything() -> None:
    """Done once, before anything is forked."""
    for name in IMPORTED:
        importlib.import_module(name)


def fork_ranks(
    arguments: Sequence[str],
    processes: int,
    output: Path,
    first: Callable[[int], None] = lambda _: None,
    script: str | None = None,
) -> list[int]:
    """The pids of the ranks of ``-m pretrain`` or a script; ``first`` is called with each rank."""
    port = str(free_port())
    program = partial(_train, arguments) if script is None else partial(_run, script, arguments)
    return [_forked(program, processes, output, rank, port, first) for rank in range(processes)]


def _train(arguments: Sequence[str]) -> int:
    from pretrain.__main__ import main as train

    return train(list(arguments))


def _run(script: str, arguments: Sequence[str]) -> int:
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")
    return 0


def _forked(
    program: Callable[[], int],
    processes: int,
    output: Path,
    rank: int,
    port: str,
    first: Callable[[int], None],
) -> int:
    pid = os.fork()
    if pid:
        return pid
    die_with_parent()
    first(rank)
    import torch

    settings = process_environment(processes, "cpu")
    os.environ.update(settings)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1")
    os.environ.update(WORLD_SIZE=str(processes), LOCAL_WORLD_SIZE=str(processes))
    os.environ.update(ACCELERATE_USE_DEEPSPEED="true", MASTER_PORT=port)
    torch.set_num_threads(int(settings["OMP_NUM_THREADS"]))
    stream = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    code = 1
    try:
        code = program()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def alive(pids: Sequence[int]) -> list[int]:
    """Those that have not ended; of the others no trace is left."""
    return [pid for pid in pids if os.waitpid(pid, os.WNOHANG)[0] == 0]


class Started:
    """A run's processes, to be used as a `subprocess.Popen` of the launcher."""

    def __init__(
        self,
        arguments: Sequence[str],
        processes: int,
        environment: Mapping[str, str],
        folder: Path,
        script: Path | None = None,
    ) -> None:
        """Of ``-m pretrain`` or of a script; ``folder`` is for its output."""
        folder.mkdir(parents=True, exist_ok=True)
        number = sum(1 for _ in folder.glob("output*.txt"))
        self._output, self._done = folder / f"output{number}.txt", folder / f"done{number}"
        request = {
            "arguments": list(arguments),
            "processes": processes,
            "script": script and str(script),
            "environment": {**os.environ, **environment},
            "output": str(self._output),
            "done": str(self._done),
        }
        server = _server()
        assert server.stdin and server.stdout
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        self.pid = int(server.stdout.readline())
        self.returncode: int | None = None
        self.rank_codes: list[int] = []

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        if self.returncode is None:
            is_there = _is_there(self.pid)  # asked first: it may end in between
            if self._done.exists():
                self.returncode, *self.rank_codes = json.loads(self._done.read_text())
            elif not is_there:
                self.returncode = -signal.SIGKILL
        return self.returncode

    def communicate(self, timeout: float = 240.0) -> tuple[str, None]:
        """What it wrote, when it has ended."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                raise AssertionError(f"it does not end: {self._output.read_text()}")
            time.sleep(0.01)
        return self._output.read_text() if self._output.exists() else "", None


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@cache
def _server() -> subprocess.Popen[str]:
    environment = {**os.environ, **process_environment(os.cpu_count() or 1, "cpu")}
    server = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    atexit.register(server.kill)
    return server


def serve() -> None:
    """Start what each line of stdin asks for, until the asking process ends."""
    die_with_parent()
    import_everything()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for launchers
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _launch(json.loads(line))
        print(pid, flush=True)


def _launch(request: dict[str, Any]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.environ.clear()
    os.environ.update(request["environment"])
    output, script = Path(request["output"]), request["script"]
    pids = fork_ranks(request["arguments"], request["processes"], output, script=script)
    codes: dict[int, int] = {}
    while len(codes) < len(pids):
        pid, status = os.wait()
        codes[pid] = os.waitstatus_to_exitcode(status)
        if codes[pid]:
            for other in set(pids).difference(codes):
                os.kill(other, signal.SIGTERM)
    code = int(any(codes.values()))  # accelerate's, whatever the processes leave with
    aside = Path(request["done"] + ".aside")
    aside.write_text(json.dumps([code, *(codes[pid] for pid in pids)]))
    aside.rename(request["done"])
    os._exit(0)


if __name__ == "__main__":
    serve()
