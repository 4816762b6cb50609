"""The plan: which clips make up micro-batch m of optimizer step t, as a pure function.

plan(index, seed, budget) never depends on world size, worker count, timing or what was read
before, so a step number is all the data state that a checkpoint needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from shards.buckets import bucket_edges
from shards.errors import UserError
from shards.index import Index
from shards.section import Section

VERSION = 1
"""Goes up whenever the same settings would give another order."""

Rows = npt.NDArray[np.int64]


class BatchConfig(Section):
    """``batch``: how much audio an optimizer step and a micro-batch hold."""

    seconds: float = Field(gt=0, description="audio per optimizer step, all ranks together")
    micro_seconds: float = Field(gt=0, description="padded audio per micro-batch")
    buckets: int = Field(default=16, ge=1, le=128, description="length buckets at most")

    @property
    def micro_batches(self) -> int:
        """Micro-batches per optimizer step (G), over all ranks; UserError where there is none."""
        whole = int(self.seconds / self.micro_seconds + 1e-9)
        if whole < 1:
            raise UserError(
                f"batch.seconds={self.seconds:g} is less than batch.micro_seconds="
                f"{self.micro_seconds:g}; give a step at least one micro-batch: "
                f"batch.seconds={self.micro_seconds:g}"
            )
        return whole


@dataclass(frozen=True)
class MicroBatch:
    """The clips of one forward pass.

    ``rows`` are index rows. A micro-batch of an epoch's short last step can run out of clips:
    it then holds a stand-in clip and ``counted`` is False, because every rank must take part in
    the collectives of every micro-batch; its loss has no weight.
    """

    step: int
    index: int
    bucket: int
    rows: Rows
    counted: bool


@dataclass(frozen=True)
class StepPlan:
    """One optimizer step: all its micro-batches, in order, for all ranks."""

    step: int
    epoch: int
    bucket: int
    micro_batches: tuple[MicroBatch, ...]

    @property
    def rows(self) -> Rows:
        """Rows of every counted clip of the step."""
        return np.concatenate([micro.rows for micro in self.micro_batches if micro.counted])

    def of_rank(self, rank: int, world_size: int) -> tuple[MicroBatch, ...]:
        """The micro-batches that ``rank`` runs: every ``world_size``-th."""
        return self.micro_batches[rank::world_size]


class Plan:
    """The order of all clips for ever.

    Every step draws from one length bucket. A bucket's clips that do not fill a step move up
    into the next longer bucket; what the longest leaves is the epoch's short last step.

    An epoch's order is held in memory, 16 bytes a clip; a step's number finds its place at once.
    """

    def __init__(
        self,
        index: Index,
        *,
        seed: int,
        batch: BatchConfig,
        min_seconds: float = 0.0,
        max_seconds: float | None = None,
    ) -> None:
        self.index = index
        self.seed = seed
        self.batch = batch
        self.min_seconds, self.max_seconds = min_seconds, max_seconds
        self.micro_batches = batch.micro_batches
        self.admitted = _admitted(index, min_seconds, max_seconds)
        lengths = index.seconds[self.admitted].astype(np.float64)
        self._refuse_small_budget(lengths)
        self.edges = bucket_edges(lengths, batch.buckets)
        self._members = _split(self.admitted, np.searchsorted(self.edges, lengths), self.edges)
        self.clips_per_micro = [int(batch.micro_seconds / edge + 1e-9) for edge in self.edges]
        self._full_steps, self._left_over = self._count_steps()
        self.steps_per_epoch = sum(self._full_steps) + (1 if self._left_over else 0)
        self._epoch_order = lru_cache(maxsize=2)(self._order_epoch)

    def _refuse_small_budget(self, lengths: npt.NDArray[np.float64]) -> None:
        longest = int(lengths.argmax())
        if lengths[longest] > self.batch.micro_seconds:
            raise UserError(
                f"batch.micro_seconds={self.batch.micro_seconds:g} is less than the longest clip "
                f"({self.index.key(int(self.admitted[longest]))}, {lengths[longest]:.2f} s); set "
                f"batch.micro_seconds to at least {np.ceil(lengths[longest]):.0f} or leave long "
                f"clips out with data.max_seconds={self.batch.micro_seconds:g}"
            )

    def _count_steps(self) -> tuple[list[int], int]:
        steps, carried = [], 0
        for members, per_micro in zip(self._members, self.clips_per_micro, strict=True):
            full, carried = divmod(len(members) + carried, per_micro * self.micro_batches)
            steps.append(full)
        return steps, carried

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything the order depends on, by the name a user knows it by."""
        return {
            "plan": VERSION,
            "index": self.index.digest,
            "seed": self.seed,
            "batch.seconds": self.batch.seconds,
            "batch.micro_seconds": self.batch.micro_seconds,
            "batch.buckets": self.batch.buckets,
            "data.min_seconds": self.min_seconds,
            "data.max_seconds": self.max_seconds,
        }

    def step(self, step: int) -> StepPlan:
        """What optimizer step ``step`` (counted from 0) trains on."""
        epoch, position = divmod(step, self.steps_per_epoch)
        bucket, rows = self._epoch_order(epoch)[position]
        return StepPlan(step, epoch, bucket, tuple(self._cut(step, bucket, rows)))

    def steps(self, start: int, stop: int) -> Iterator[StepPlan]:
        """Steps ``start`` to ``stop - 1``."""
        return map(self.step, range(start, stop))

    def padding(self, step_plan: StepPlan) -> float:
        """The share of a step's padded audio that is padding, 0 to 1."""
        seconds = self.index.seconds
        counted = [micro.rows for micro in step_plan.micro_batches if micro.counted]
        padded = sum(len(rows) * float(seconds[rows].max()) for rows in counted)
        return max(0.0, 1 - float(seconds[step_plan.rows].sum()) / padded)

    def costliest(self) -> tuple[MicroBatch, ...]:
        """What memory must suffice for: most padded audio in one micro-batch, and longest clips."""
        longest_first = self.admitted[np.argsort(-self.index.seconds[self.admitted], kind="stable")]
        fullest = max(range(len(self.edges)), key=lambda b: self.clips_per_micro[b] * self.edges[b])
        return tuple(
            self._longest_in(bucket, longest_first)
            for bucket in sorted({fullest, len(self.edges) - 1})
        )

    def _longest_in(self, bucket: int, longest_first: Rows) -> MicroBatch:
        fitting = longest_first[self.index.seconds[longest_first] <= self.edges[bucket]]
        return MicroBatch(0, 0, bucket, fitting[: self.clips_per_micro[bucket]], False)

    def _cut(self, step: int, bucket: int, rows: Rows) -> Iterator[MicroBatch]:
        # Clips of like length share a micro-batch: clips moved up from shorter buckets pad less.
        by_length = rows[np.argsort(self.index.seconds[rows], kind="stable")]
        for number, share in enumerate(np.array_split(by_length, self.micro_batches)):
            counted = len(share) > 0
            yield MicroBatch(step, number, bucket, share if counted else rows[:1], counted)

    def _order_epoch(self, epoch: int) -> list[tuple[int, Rows]]:
        steps: list[tuple[int, Rows]] = []
        carried = np.empty(0, dtype=np.int64)
        for bucket, (members, per_micro, full) in enumerate(
            zip(self._members, self.clips_per_micro, self._full_steps, strict=True)
        ):
            pool = self._shuffle(np.concatenate([carried, members]), epoch, bucket)
            size = per_micro * self.micro_batches
            steps += [(bucket, pool[n * size : (n + 1) * size]) for n in range(full)]
            carried = pool[full * size :]
        order = self._shuffle(np.arange(len(steps)), epoch, len(self._members))
        shuffled = [steps[position] for position in order]
        return shuffled + ([(len(self._members) - 1, carried)] if len(carried) else [])

    def _shuffle(self, rows: Rows, epoch: int, stream: int) -> Rows:
        # Raw Philox words are the same in every numpy release; Generator.permutation need not be.
        words = np.random.Philox(np.random.SeedSequence([self.seed, epoch, stream]))
        return rows[np.argsort(words.random_raw(len(rows)), kind="stable")]


def _admitted(index: Index, min_seconds: float, max_seconds: float | None) -> Rows:
    seconds = index.seconds
    limit = np.inf if max_seconds is None else max_seconds
    rows = np.flatnonzero((seconds >= min_seconds) & (seconds <= limit)).astype(np.int64)
    if len(rows) == 0:
        raise UserError(
            f"data.min_seconds={min_seconds:g} and data.max_seconds={limit:g} admit none of the "
            f"{len(index)} clips ({seconds.min():.2f} to {seconds.max():.2f} s) in {index.folder}; "
            "widen them"
        )
    return rows


def _split(rows: Rows, bucket: npt.NDArray[np.intp], edges: npt.NDArray[np.float64]) -> list[Rows]:
    return [rows[bucket == number] for number in range(len(edges))]


def changed_settings(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two fingerprints, one phrase each."""
    return [
        f"{name} was {before.get(name)} and is now {now.get(name)}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
