"""Kill a run of two processes at random moments, again and again: KILLS SEED ARGUMENT ...

The ARGUMENTs are those of ``-m pretrain``. Processes are forked off this one, which has imported
everything, so that a start takes a second. Prints a line of JSON for every kill: the last step in
the log, and that of the checkpoint that the next start will find.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import pretrain.loop  # noqa: F401
from launch.accelerate import cpu_environment, free_port
from pretrain.__main__ import main as train
from pretrain.checkpoint.manifest import DamageError, Manifest
from pretrain.checkpoint.restore import check_files
from pretrain.checkpoint.store import LocalStore, newest
from pretrain.config import load
from pretrain.metrics import read_log
from shards.processes import die_with_parent

RANKS = 2
# What a run imports on its way, in the order in which it works.
IMPORTED = (
    "torch._dynamo",
    "torch._inductor.compile_fx",
    "torch.utils.tensorboard",
    "deepspeed.runtime.zero.muon.original_muon",
    "transformers",
    "accelerate",
)
PATIENCE = 120.0


def start(arguments: list[str], output: Path) -> list[int]:
    port = str(free_port())
    return [_forked(arguments, output, rank, port) for rank in range(RANKS)]


def _forked(arguments: list[str], output: Path, rank: int, port: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    die_with_parent()
    os.environ.update(cpu_environment(RANKS))
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1")
    os.environ.update(WORLD_SIZE=str(RANKS), LOCAL_WORLD_SIZE=str(RANKS), MASTER_PORT=port)
    os.environ.update(ACCELERATE_USE_DEEPSPEED="true")
    torch.set_num_threads(1)
    stream = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os._exit(train(arguments))


def wait(pids: list[int], seconds: float) -> list[int]:
    """The processes that have not ended by then."""
    deadline, left = time.monotonic() + seconds, list(pids)
    while left and time.monotonic() < deadline:
        left = [pid for pid in left if os.waitpid(pid, os.WNOHANG)[0] == 0]
        time.sleep(0.005)
    return left


def kill_once(pids: list[int], log: Path, chance: random.Random) -> None:
    """At a random moment after the next step, one of them or all; the launcher ends the rest."""
    begun, deadline = len(read_log(log)), time.monotonic() + PATIENCE
    while len(read_log(log)) <= begun:
        assert time.monotonic() < deadline, "no further step"
        assert not any(os.waitpid(pid, os.WNOHANG)[0] for pid in pids), "it ended by itself"
        time.sleep(0.005)
    time.sleep(chance.uniform(0, 0.2))
    first = chance.choice([pids, pids[:1], pids[1:]])
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    time.sleep(chance.uniform(0, 0.1))
    for pid in wait(pids, 0):
        os.kill(pid, signal.SIGKILL)
    assert not wait(pids, PATIENCE)


def found_step(store: LocalStore) -> int:
    """Of the checkpoint that a start goes on from; every byte of it is read."""
    for name, manifest in newest(store):
        if isinstance(manifest, Manifest):
            try:
                check_files(store, name, manifest.files.items())
            except DamageError as damage:
                raise AssertionError(f"{name} was committed and is damaged: {damage}") from damage
            return manifest.state.step
    return 0


def main() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    kills, chance, arguments = int(sys.argv[1]), random.Random(int(sys.argv[2])), sys.argv[3:]
    config = load(Path(arguments[0]), arguments[1:])
    folder = config.run.folder
    folder.mkdir(parents=True, exist_ok=True)
    store = LocalStore(folder / "checkpoints")
    for _ in range(kills):
        kill_once(start(arguments, folder / "output.txt"), folder / "log.jsonl", chance)
        logged = int(read_log(folder / "log.jsonl")[-1]["step"])
        print(json.dumps({"logged": logged, "saved": found_step(store)}), flush=True)
    target = f"train.steps={logged + 4}"
    left = wait(start([*arguments, target], folder / "output.txt"), PATIENCE)
    assert not left, "it did not end"
    print(json.dumps({"target": logged + 4}))


if __name__ == "__main__":
    main()
