"""Kill a run of two processes again and again: MOMENT,MOMENT,... SEED ARGUMENT ...

The ARGUMENTs are those of ``-m pretrain``. A MOMENT is "random", or RANK:PHASE for a rank that
kills itself just before a phase of a save; the other is killed too, at once or a little later.
Processes are forked off this one, which has imported everything, so that a start takes a second.
Prints a line of JSON for every kill: the last step in the log, and that of the checkpoint that the
next start will find.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import time
from pathlib import Path

from run_server import alive, fork_ranks, import_everything

from pretrain.checkpoint.manifest import DamageError, Manifest
from pretrain.checkpoint.restore import check_files
from pretrain.checkpoint.store import LocalStore, newest
from pretrain.config import load
from pretrain.metrics.files import read_log

RANKS = 2
RANDOM = "random"
# What a process asks of the system, by Python's audit events, as a phase begins.
PHASES = {
    "write": ("open", re.compile(r".*\.unfinished/rank_.*")),
    "manifest": ("open", re.compile(r".*\.unfinished/manifest.json")),
    "rename": ("os.rename", re.compile(r".*\.unfinished")),
    "marker": ("open", re.compile(r".*/\.COMMITTED")),
    "commit": ("os.rename", re.compile(r".*/\.COMMITTED")),
    "prune": ("os.remove", re.compile(r".*/COMMITTED")),
    "removal": ("os.remove", re.compile(r"rank_.*")),
    "clear": ("os.rmdir", re.compile(r".*/epoch_\d+_step_\d+")),
}
SAVE = 3  # of a process, in which it kills itself: there are older ones to prune
PATIENCE = 120.0


def start(arguments: list[str], output: Path, moment: str = RANDOM) -> list[int]:
    rank, _, phase = moment.partition(":")

    def first(own: int) -> None:
        if phase and own == int(rank):
            kill_before(phase)

    return fork_ranks(arguments, RANKS, output, first)


def kill_before(phase: str) -> None:
    """Have this process kill itself as a later save comes to ``phase``."""
    awaited, path = PHASES[phase]
    begun = 0

    def look(event: str, told: tuple[object, ...]) -> None:
        nonlocal begun
        if event == awaited and path.fullmatch(str(told[0])):
            begun += 1
            if begun == SAVE:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def until_ended(pids: list[int], count: int) -> list[int]:
    """Wait until so many of the processes have ended; the others."""
    deadline, left = time.monotonic() + PATIENCE, alive(pids)
    while len(pids) - len(left) < count:
        assert time.monotonic() < deadline, f"of {len(pids)} processes {len(left)} do not end"
        time.sleep(0.002)
        left = alive(left)
    return left


def kill_at_random(pids: list[int], log: Path, chance: random.Random) -> None:
    """After the next step, one of them or all."""
    begun, deadline = len(read_log(log)), time.monotonic() + PATIENCE
    while len(read_log(log)) <= begun:
        assert time.monotonic() < deadline, "no further step"
        assert alive(pids) == pids, "it ended by itself"
        time.sleep(0.005)
    time.sleep(chance.uniform(0, 0.2))
    for pid in chance.choice([pids, pids[:1], pids[1:]]):
        os.kill(pid, signal.SIGKILL)


def end_others(pids: list[int], chance: random.Random) -> None:
    """As the launcher does when it has noticed that a process died."""
    left = until_ended(pids, 1)
    time.sleep(chance.uniform(0, 0.1))
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    until_ended(left, len(left))


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
    import_everything()
    moments, chance = sys.argv[1].split(","), random.Random(int(sys.argv[2]))
    arguments = sys.argv[3:]
    config = load(Path(arguments[0]), arguments[1:])
    folder = config.run.folder
    folder.mkdir(parents=True, exist_ok=True)
    store = LocalStore(folder / "checkpoints")
    for moment in moments:
        pids = start(arguments, folder / "output.txt", moment)
        if moment == RANDOM:
            kill_at_random(pids, folder / "log.jsonl", chance)
        end_others(pids, chance)
        logged = int(read_log(folder / "log.jsonl")[-1]["step"])
        told = {"moment": moment, "logged": logged, "saved": found_step(store)}
        print(json.dumps(told), flush=True)
    target = f"train.steps={logged + 4}"
    until_ended(start([*arguments, target], folder / "output.txt"), RANKS)
    print(json.dumps({"target": logged + 4}))


if __name__ == "__main__":
    main()
