"""The training stream: a webdataset pipeline whose source reads what the plan asks for."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import webdataset
from torch.utils.data import DataLoader, get_worker_info

from shards.collate import Batch, Collate
from shards.dataset import DataConfig
from shards.fields import Field
from shards.plan import MicroBatch, Plan
from shards.processes import die_with_parent

Stage = Callable[..., Any]


class PlanSource:
    """The pipeline's first stage: one rank's clips in plan order, as undecoded samples.

    Loader worker w of n yields micro-batches w, w + n, ... of its rank; the DataLoader takes
    from its workers in turn, so that their number changes nothing.
    """

    def __init__(
        self, plan: Plan, members: Sequence[str], steps: range, rank: int, world_size: int
    ) -> None:
        self.plan, self.members, self.steps = plan, tuple(members), steps
        self.rank, self.world_size = rank, world_size

    def __call__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        mine, of = (worker.id, worker.num_workers) if worker else (0, 1)
        return self.clips(islice(self._micro_batches(), mine, None, of))

    def clips(self, micro_batches: Iterable[MicroBatch]) -> Iterator[dict[str, Any]]:
        """The clips of these micro-batches, one after another."""
        reader = ShardReader(self.plan.index.folder)
        for micro in micro_batches:
            for row in micro.rows:
                yield self._sample(reader, micro, int(row))

    def _micro_batches(self) -> Iterator[MicroBatch]:
        for step in self.plan.steps(self.steps.start, self.steps.stop):
            yield from step.of_rank(self.rank, self.world_size)

    def _sample(self, reader: ShardReader, micro: MicroBatch, row: int) -> dict[str, Any]:
        index = self.plan.index
        shard, members = index.shard(row), index.members(row)
        sample: dict[str, Any] = {
            "__key__": index.key(row),
            "__url__": shard,
            "__micro__": micro,
        }
        for name in self.members:
            if member := members.get(name):
                sample[name] = reader.read(shard, member.offset, member.size)
        return sample


class ShardReader:
    """Reads byte ranges of shards in one folder and keeps the last few files open."""

    def __init__(self, folder: Path) -> None:
        self._open = lru_cache(maxsize=32)(lambda shard: open(folder / shard, "rb", buffering=0))

    def read(self, shard: str, offset: int, size: int) -> bytes:
        """``size`` bytes at ``offset``; EOFError names a shard that ends before them."""
        data = os.pread(self._open(shard).fileno(), size, offset)
        if len(data) != size:
            raise EOFError(
                f"{shard} ends at byte {offset + len(data)}, {offset + size} were indexed"
            )
        return data


def stream(
    plan: Plan,
    fields: Sequence[Field],
    steps: range,
    *,
    rank: int,
    world_size: int,
    config: DataConfig,
    stages: Sequence[Stage] = (),
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """One rank's micro-batches of ``steps``, in order.

    ``stages`` are webdataset stages between decoding and collating, such as
    ``webdataset.map(augment)``.
    """
    members = [field.member for field in fields]
    pipeline = webdataset.DataPipeline(
        PlanSource(plan, members, steps, rank, world_size),
        webdataset.decode(),
        *stages,
        Collate(fields),
    )
    return iter(
        DataLoader(
            pipeline,
            batch_size=None,
            num_workers=config.workers,
            prefetch_factor=config.prefetch if config.workers else None,
            pin_memory=pin_memory,
            worker_init_fn=_follow_the_rank,
        )
    )


def _follow_the_rank(_worker: int) -> None:
    die_with_parent()
    # SLURM and terminals signal every process: the rank decides, and still needs its data.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def read_batch(plan: Plan, fields: Sequence[Field], micro: MicroBatch) -> Batch:
    """One micro-batch read at once, outside the stream."""
    source = PlanSource(plan, [field.member for field in fields], range(0), 0, 1)
    pipeline = webdataset.DataPipeline(
        partial(source.clips, [micro]), webdataset.decode(), Collate(fields)
    )
    return cast("Batch", next(iter(pipeline)))
