"""The first micro-batch after a restart: time and memory, for corpora of any size.

    python tests/bench/startup.py WORK
Memory is the proportional set size of a rank and its loader workers above that of a process that
has only imported torch; the index's pages that were touched count in full.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpus import write_corpus, write_large_index


@dataclass(frozen=True)
class Case:
    """A corpus, where an epoch is resumed, and how many ranks share a step."""

    clips: int
    done: float
    ranks: int
    workers: int = 2
    further_steps: int = 200


CASES = (
    Case(2_500_000, 0.3, 8),
    Case(10_000_000, 0.0, 8),
    Case(10_000_000, 0.5, 8),
    Case(10_000_000, 0.99, 8),
    Case(100_000_000, 0.5, 4096),
)


def memory(pids: list[int]) -> float:
    """Proportional set size of some processes, in MiB."""
    total = 0
    for pid in pids:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    return total / 1024


def children() -> list[int]:
    """Loader workers of this process."""
    listed = Path("/proc/self/task").glob("*/children")
    return [int(pid) for path in listed for pid in path.read_text().split()]


def measure(folder: Path, case: Case) -> dict[str, Any]:
    """Run in a fresh process: open, plan, deliver the first micro-batch and go on."""
    before = memory([os.getpid()])
    from shards.dataset import DataConfig, open_plan
    from shards.fields import Field
    from shards.plan import BatchConfig
    from shards.stream import stream

    fields = tuple(Field(f"{name}.npy", pad=0, dtype="int64") for name in ("phonemes", "semantic"))
    config = DataConfig(path=str(folder), workers=case.workers)
    batch = BatchConfig(seconds=160.0 * case.ranks, micro_seconds=160)
    rank = case.ranks // 3
    # Where the epoch stands is known from the checkpoint's step: not part of the restart.
    per_epoch = open_plan(config, batch, 0).step_at(1)
    start = int(case.done * per_epoch)
    began = time.perf_counter()
    plan = open_plan(config, batch, 0)
    batches = stream(
        plan,
        fields,
        range(start, start + 2 * case.further_steps),
        rank=rank,
        world_size=case.ranks,
        config=config,
    )
    next(batches)
    first = time.perf_counter() - began
    steps = []
    for step in range(case.further_steps):
        asked = time.perf_counter()
        next(batches)
        plan.progress(start + step)
        steps.append(time.perf_counter() - asked)
    used = memory([os.getpid(), *children()]) - before
    parts = np.array_split(np.array(steps) * 1000, 4)
    return {
        "clips": case.clips,
        "ranks": case.ranks,
        "done": case.done,
        "steps_per_epoch": per_epoch,
        "first_seconds": round(first, 2),
        "memory_mib": round(used),
        "step_ms_by_quarter": [round(float(np.median(part)), 2) for part in parts],
        "slowest_step_ms": round(max(steps) * 1000, 1),
    }


def prepared(work: Path, clips: int) -> Path:
    """An index of so many clips, made once."""
    small = work / "tokens"
    if not (small / "index.arrow").exists():
        write_corpus(small, "tokens", 20_000)
    folder = work / f"index-{clips}"
    if not (folder / "index.arrow").exists():
        write_large_index(folder, small, clips)
    return folder


def main() -> None:
    """Measure every case, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--case", type=int)
    parser.add_argument("--at-most", type=int, default=max(case.clips for case in CASES))
    given = parser.parse_args()
    if given.case is not None:
        case = CASES[given.case]
        print(json.dumps(measure(given.work / f"index-{case.clips}", case)), flush=True)
        return
    for number, case in enumerate(CASES):
        if case.clips <= given.at_most:
            prepared(given.work, case.clips)
            command = [sys.executable, __file__, str(given.work), "--case", str(number)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
