"""Segue's own stream: length buckets from the plan, read in place.

Runs in Segue's environment, not in the peers'.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from padding import Batch
from report import Job, Peer, command_line

from shards.dataset import DataConfig, open_plan
from shards.fields import Field
from shards.plan import BatchConfig
from shards.stream import stream

FIELDS = {
    "tokens": (
        Field("phonemes.npy", pad=0, dtype="int64"),
        Field("semantic.npy", pad=0, dtype="int64"),
    ),
    "audio": (Field("audio", pad=0, dtype="float32"),),
}
MICRO_BATCHES = 4


def prepare(shards: Path, job: Job) -> None:
    """The shards are Segue's already."""
    (job.folder / "shards").symlink_to(shards.resolve())


def deliver(job: Job) -> Iterator[Batch]:
    """Micro-batches of whole epochs, in the plan's order."""
    # Audio is decoded by as many threads as the others have worker processes.
    threads = {"audio": job.workers, "tokens": 0}[job.kind]
    workers = job.workers - threads
    config = DataConfig(
        path=str(job.folder / "shards"), workers=workers, threads=threads, prefetch=2
    )
    budget = BatchConfig(seconds=MICRO_BATCHES * job.micro_seconds, micro_seconds=job.micro_seconds)
    plan = open_plan(config, budget, seed=0)
    steps = range(plan.step_at(job.epochs))
    for batch in stream(plan, FIELDS[job.kind], steps, rank=0, world_size=1, config=config):
        if len(batch.rows):  # not a stand-in at an epoch's end
            lengths = {f"{name}_lengths": length for name, length in batch.lengths.items()}
            yield {**batch.arrays, **lengths}


if __name__ == "__main__":
    command_line(Peer("segue", "segue-speech", prepare, deliver), __doc__)
