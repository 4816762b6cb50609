"""Clips per core-second and padding: Segue's stream against a plain webdataset pipeline.

Both read the same shards in this process, one after the other, and deliver padded micro-batches.
    python tests/bench/stream.py SHARDS
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cpuinfo
import torch
import webdataset

from shards.collate import Batch, pad
from shards.dataset import DataConfig, open_plan
from shards.fields import Field
from shards.plan import BatchConfig
from shards.stream import stream

FIELDS = (
    Field("phonemes.npy", pad=0, dtype="int64"),
    Field("semantic.npy", pad=1024, dtype="int64"),
)
BUDGET = BatchConfig(seconds=640, micro_seconds=160)
EPOCHS = 3
Lengths = Iterator[torch.Tensor]


def segue(folder: Path) -> Lengths:
    """Semantic lengths of each micro-batch of some epochs, in length buckets."""
    config = DataConfig(path=folder, workers=0)
    plan = open_plan(config, BUDGET, seed=0)
    steps = range(EPOCHS * plan.steps_per_epoch)
    batches: Iterator[Batch] = stream(plan, FIELDS, steps, rank=0, world_size=1, config=config)
    for batch in batches:
        yield batch.lengths["semantic"]


def plain(folder: Path) -> Lengths:
    """The same from webdataset: shuffled, decoded, batches of a fixed count."""
    shards = sorted(str(path) for path in folder.glob("*.tar"))
    seconds = open_plan(DataConfig(path=folder), BUDGET, seed=0).index.seconds
    count = max(1, int(BUDGET.micro_seconds / seconds.mean()))
    pipeline = webdataset.WebDataset(shards, shardshuffle=100).shuffle(1000).decode()
    for _ in range(EPOCHS):
        for samples in pipeline.batched(count, collation_fn=None):
            yield {field: pad([s.get(field.member) for s in samples], field) for field in FIELDS}[
                FIELDS[1]
            ][1]


def measure(source: Callable[[Path], Lengths], folder: Path) -> dict[str, Any]:
    """Clips per core-second and the padded share of the semantic tokens."""
    clips = padded = real = 0
    began = time.process_time()
    for lengths in source(folder):
        clips += len(lengths)
        real += int(lengths.sum())
        padded += len(lengths) * int(lengths.max())
    return {"rate": clips / (time.process_time() - began), "padding": 1 - real / padded}


def main(folder: Path) -> None:
    """Print both and their ratio."""
    torch.set_num_threads(1)
    print(f"{cpuinfo.get_cpu_info()['brand_raw']}, one core, {EPOCHS} epochs of {folder}")
    ours, theirs = measure(segue, folder), measure(plain, folder)
    for name, figures in (("segue", ours), ("webdataset, fixed count", theirs)):
        rate, padding = figures["rate"], figures["padding"]
        print(f"{name:24s} {rate:8,.0f} clips/core-s  padding {padding:6.1%}")
    print(f"ratio {ours['rate'] / theirs['rate']:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
