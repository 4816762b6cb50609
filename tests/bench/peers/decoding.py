"""The limit of audio: FLAC files that lie in memory are decoded and nothing else is done.

python decoding.py run SHARDS --epochs N --workers W
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from importlib.metadata import version
from multiprocessing.synchronize import Barrier
from pathlib import Path

from padding import decode
from reading import read_clips
from report import core_seconds


def decode_part(shards: Path, part: int, parts: int, epochs: int, ready: Barrier) -> None:
    """Decode every ``parts``-th clip; the barrier is passed before and after."""
    files = [clip.flac for n, clip in enumerate(read_clips(shards)) if n % parts == part]
    ready.wait()
    for _ in range(epochs):
        for file in files:
            decode(file)
    ready.wait()


def main() -> None:
    """Print one JSON line as the loaders do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["run"])
    parser.add_argument("shards", type=Path)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    parts = max(1, given.workers)
    ready = multiprocessing.Barrier(parts + 1)
    workers = [
        multiprocessing.Process(
            target=decode_part, args=(given.shards, part, parts, given.epochs, ready)
        )
        for part in range(parts)
    ]
    for worker in workers:
        worker.start()
    ready.wait()
    began = time.perf_counter()
    ready.wait()
    wall = time.perf_counter() - began
    for worker in workers:
        worker.join()
    clips = given.epochs * sum(1 for _ in read_clips(given.shards))
    figures = {
        "clips": clips,
        "wall_seconds": round(wall, 3),
        "core_seconds": round(core_seconds(), 3),
    }
    head = {"name": "decoding alone", "kind": "audio", "workers": given.workers, "padding": 0.0}
    print(json.dumps(head | figures | {"version": version("soundfile")}), flush=True)


if __name__ == "__main__":
    main()
