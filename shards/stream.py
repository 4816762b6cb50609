"""The training stream: a webdataset pipeline whose source reads what the plan asks for."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import webdataset
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from shards.ahead import in_threads
from shards.collate import Batch, Collate, Intake, expand, regroup
from shards.dataset import DataConfig, open_stores
from shards.decode import Decoder
from shards.errors import UserError
from shards.fields import Field
from shards.plan import MicroBatch, Plan, StepPlan
from shards.processes import die_with_parent, keep_freed_memory
from shards.reading import ClipReader, Clips, first_of

Stage = Callable[..., Any]
FAILURES_IN_A_ROW = 100
TOGETHER = 16
TOGETHER_BYTES = 1 << 20
"""At most so many micro-batches and bytes are read at once."""
AHEAD = 16
"""Micro-batches whose shards a store is told of before they are read."""


class PlanSource:
    """The pipeline's first stage: one rank's clips in plan order, read and decoded.

    Loader worker w of n reads micro-batches w, w + n, ... of its rank; the DataLoader takes from
    its workers in turn, so that their number changes nothing.
    """

    def __init__(
        self,
        plan: Plan,
        reader: Callable[[], ClipReader],
        steps: range,
        config: DataConfig,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """``reader`` makes one for each thread that reads."""
        self.plan, self.steps, self.config = plan, steps, config
        self.rank, self.world_size = rank, world_size
        self._make_reader, self._own = reader, threading.local()
        self._in_a_row = 0
        self._spare: Clips | None = None

    def __call__(self) -> Iterator[Intake]:
        worker = get_worker_info()
        mine, of = (worker.id, worker.num_workers) if worker else (0, 1)
        numbers = islice(self._micro_batches(), mine, None, of)
        planned = (self.plan.micro_batch(step, index) for step, index in numbers)
        groups = self._small_groups(self._announced(planned) if self.reader.far else planned)
        if self.config.threads:
            keep_freed_memory()
            read = in_threads(
                self._read_together, groups, self.config.threads, ahead=self.config.prefetch
            )
        else:
            read = map(self._read_together, groups)
        for intakes in read:
            yield from intakes

    @property
    def reader(self) -> ClipReader:
        """This thread's reader."""
        if not hasattr(self._own, "reader"):
            self._own.reader = self._make_reader()
        reader: ClipReader = self._own.reader
        return reader

    def _small_groups(self, micro_batches: Iterable[MicroBatch]) -> Iterator[list[MicroBatch]]:
        """Micro-batches of a few bytes are read together: the cost is mostly per request."""
        group: list[MicroBatch] = []
        held = 0.0
        for micro in micro_batches:
            size = float(self.plan.corpus.gather("size", micro.rows).sum())
            if group and (held + size > TOGETHER_BYTES or len(group) == TOGETHER):
                yield group
                group, held = [], 0.0
            group.append(micro)
            held += size
        if group:
            yield group

    def _read_together(self, group: list[MicroBatch]) -> list[Intake]:
        clips = self.reader.read(np.concatenate([micro.rows for micro in group]))
        if clips.failures and self.config.on_error == "stop":
            self._count(clips)
        if clips.failures:
            return [self.read(micro) for micro in group]
        self._in_a_row, self._spare = 0, clips
        parts = clips.split([len(micro.rows) for micro in group])
        return [
            Intake(micro, micro.counted, part) for micro, part in zip(group, parts, strict=True)
        ]

    def read(self, micro: MicroBatch) -> Intake:
        """The clips of a micro-batch that can be read; a stand-in where there is none.

        UserError for a clip that cannot be read, or (on_error=skip) 100 in a row.
        """
        clips = self.reader.read(micro.rows)
        if not micro.counted:  # its clip is counted, and if need be missed, in another
            clips = replace(clips, failures=[])
        if clips.failures:
            self._count(clips)
        if clips.keys:
            self._in_a_row = 0
            self._spare = clips
            return Intake(micro, micro.counted, clips)
        return Intake(micro, False, replace(self._stand_in(micro), failures=clips.failures))

    def _announced(self, micro_batches: Iterable[MicroBatch]) -> Iterator[MicroBatch]:
        ahead: deque[MicroBatch] = deque()
        for micro in micro_batches:
            self.reader.expect(micro.rows)
            ahead.append(micro)
            if len(ahead) > AHEAD:
                yield ahead.popleft()
        yield from ahead

    def _micro_batches(self) -> Iterator[tuple[StepPlan, int]]:
        for step in self.plan.steps(self.steps.start, self.steps.stop):
            for index in range(self.rank, self.plan.micro_batches, self.world_size):
                yield step, index

    def _count(self, clips: Clips) -> None:
        """Stop at the first failure, or (on_error=skip) when there are too many in a row."""
        last = clips.failures[-1]
        what = f"clip {last.key} of {last.shard} cannot be read ({last.reason})"
        if self.config.on_error == "stop":
            raise UserError(
                f"data: {what}; mend the shard, or leave such clips out with data.on_error=skip"
            )
        self._in_a_row += len(clips.failures)
        if not clips.keys and self._in_a_row >= FAILURES_IN_A_ROW:
            raise UserError(
                f"data: {FAILURES_IN_A_ROW} clips in a row cannot be read, the last one: {what}; "
                "bring the shards back and start the run again"
            )

    def _stand_in(self, micro: MicroBatch) -> Clips:
        """A clip to run in the place of a micro-batch that cannot be read; it will not count."""
        plan = self.plan.begun_at(self.plan.origin)  # several threads may look for one
        step = max(micro.step, plan.origin.step)
        while self._spare is None:
            step += 1
            clips = self.reader.read(plan.micro_batch(plan.step(step), micro.index).rows)
            if clips.keys:
                self._spare = clips
            else:
                self._count(clips)
        return first_of(self._spare)


@dataclass(frozen=True)
class _Stopped:
    """What a loader worker sends in place of a batch when the data cannot be read on."""

    mistake: str


class _Guarded(IterableDataset[Any]):
    """A pipeline whose UserError is an item: the DataLoader would bury it in a traceback."""

    def __init__(self, pipeline: Iterable[Batch]) -> None:
        self.pipeline = pipeline

    def __iter__(self) -> Iterator[Batch | _Stopped]:
        try:
            yield from self.pipeline
        except UserError as mistake:
            yield _Stopped(str(mistake))


def stream(
    plan: Plan,
    fields: Sequence[Field],
    steps: range,
    *,
    rank: int,
    world_size: int,
    config: DataConfig,
    stages: Sequence[Stage] = (),
    decoders: Mapping[str, Decoder] | None = None,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """One rank's micro-batches of ``steps``, in order.

    ``stages`` are webdataset stages between decoding and collating, such as
    ``webdataset.map(augment)``; ``decoders`` turn a member's bytes into what stages see, by
    extension. UserError, when it is their turn, for clips that cannot be read.
    """
    source = PlanSource(
        plan.begun_at(plan.origin),  # a thread may read it while the caller asks its own
        lambda: ClipReader(plan.corpus, open_stores(plan.corpus, config.cache), fields, decoders),
        steps,
        config,
        rank=rank,
        world_size=world_size,
    )
    between = (expand, *stages, regroup) if stages else ()
    pipeline = webdataset.DataPipeline(source, *between, Collate(fields))
    loader = DataLoader(
        _Guarded(pipeline),
        batch_size=None,
        num_workers=config.workers,
        prefetch_factor=config.prefetch if config.workers else None,
        pin_memory=pin_memory,
        worker_init_fn=_follow_the_rank,
    )
    return _unguarded(loader)


def _unguarded(batches: Iterable[Batch | _Stopped]) -> Iterator[Batch]:
    for batch in batches:
        if isinstance(batch, _Stopped):
            raise UserError(batch.mistake)
        yield batch


def _follow_the_rank(_worker: int) -> None:
    die_with_parent()
    keep_freed_memory()
    # SLURM and terminals signal every process: the rank decides, and still needs its data.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def read_batch(plan: Plan, fields: Sequence[Field], micro: MicroBatch, config: DataConfig) -> Batch:
    """One micro-batch read at once, outside the stream."""
    reader = ClipReader(plan.corpus, open_stores(plan.corpus, config.cache), fields)
    source = PlanSource(plan, lambda: reader, range(0), config)
    return Collate(fields).batch(source.read(micro))
