"""The plan: which clips make up micro-batch m of optimizer step t, as a pure function.

plan(corpus, seed, budget, curriculum) never depends on world size, worker count, timing or what
was read before, so a step number is all the data state that a checkpoint needs.

Every step draws from one length bucket. Micro-batch m of every step is read from lane m: the
bucket's clips in the epoch's order of shards are cut into equal lanes, and each lane is read front
to back, window by window. Inside a window clips are sorted by length, cut into micro-batches and
those are shuffled, alike in all lanes, so that padding is small and the micro-batches of a step
cost the same. What does not fill a step moves up into the next longer bucket; what the longest
leaves is the epoch's short last step.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash
from pydantic import Field, model_validator

from shards.census import Census
from shards.chance import Purpose, permutation
from shards.corpus import Corpus, Rows
from shards.cost import Cost
from shards.curriculum import Curriculum, StageConfig
from shards.epochs import Epochs, Gathered, Segment, StepShape, Streamed, by_length
from shards.errors import UserError
from shards.section import Section
from shards.selection import Selection
from shards.tape import Tape

VERSION = 2
"""Goes up whenever the same settings would give another order."""
ROWS_HELD = 2_000_000


class Budget(NamedTuple):
    """What a step and a micro-batch may cost, and the options' names."""

    step: float
    micro: float
    step_option: str
    micro_option: str


class BatchConfig(Section):
    """``batch``: how much an optimizer step and a micro-batch hold.

    In seconds of padded audio, or in units of the model's own: a clip then is as long as the
    sum of its index columns times ``weights``, such as {phonemes: 1, semantic: 1}.
    """

    seconds: float | None = Field(
        default=None, gt=0, description="audio per optimizer step, all ranks together"
    )
    micro_seconds: float | None = Field(
        default=None, gt=0, description="padded audio per micro-batch"
    )
    units: float | None = Field(
        default=None, gt=0, description="instead of seconds: units per optimizer step"
    )
    micro_units: float | None = Field(
        default=None, gt=0, description="instead of micro_seconds: units per micro-batch"
    )
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={}, description="what a unit is: index columns and their weights"
    )
    attention: float | None = Field(
        default=None,
        gt=0,
        description="the clip length (seconds or units) at which attention doubles its cost",
    )
    buckets: int = Field(default=16, ge=1, le=128, description="length buckets at most")
    window: int = Field(
        default=4096, ge=1, description="clips of a lane and bucket shuffled and sorted together"
    )

    @model_validator(mode="after")
    def _one_budget(self) -> BatchConfig:
        pairs = [(self.seconds, self.micro_seconds), (self.units, self.micro_units)]
        given = [pair for pair in pairs if pair != (None, None)]
        if len(given) != 1 or None in given[0]:
            raise ValueError("give seconds and micro_seconds, or units, micro_units and weights")
        if (self.units is None) != (not self.weights):
            raise ValueError("units, micro_units and weights belong together; give all or none")
        return self

    @property
    def budget(self) -> Budget:
        """The pair that is given."""
        if self.seconds is not None and self.micro_seconds is not None:
            return Budget(self.seconds, self.micro_seconds, "batch.seconds", "batch.micro_seconds")
        assert self.units is not None and self.micro_units is not None
        return Budget(self.units, self.micro_units, "batch.units", "batch.micro_units")

    @property
    def micro_batches(self) -> int:
        """Micro-batches per optimizer step (G), over all ranks; UserError where there is none."""
        budget = self.budget
        whole = int(budget.step / budget.micro + 1e-9)
        if whole < 1:
            raise UserError(
                f"{budget.step_option}={budget.step:g} is less than {budget.micro_option}="
                f"{budget.micro:g}; give a step at least one micro-batch: "
                f"{budget.step_option}={budget.micro:g}"
            )
        return whole

    @property
    def cost(self) -> Cost:
        """How clips are priced."""
        if self.units is None:
            return Cost(attention=self.attention)
        return Cost("units", tuple(sorted(self.weights.items())), self.attention)


@dataclass(frozen=True)
class MicroBatch:
    """The clips of one forward pass; ``rows`` are corpus rows, read from lane ``index``.

    A micro-batch of an epoch's short last step can run out of clips: it then holds a stand-in
    clip and ``counted`` is False, because every rank must take part in the collectives of every
    micro-batch; its loss has no weight.
    """

    step: int
    index: int
    bucket: int
    rows: Rows
    counted: bool = True


@dataclass(frozen=True)
class StepPlan:
    """What kind of step ``step`` (counted from 0) is; `Plan.share` tells its clips."""

    step: int
    bucket: int
    segment: Segment
    content: Streamed | Gathered

    @property
    def epoch(self) -> int:
        """The epoch it belongs to, counted from 0."""
        return self.segment.epoch


@dataclass(frozen=True)
class Origin:
    """Where this data order begins: at optimizer step ``step``, with epoch ``epoch``."""

    step: int = 0
    epoch: int = 0


class Plan:
    """The order of all clips for ever."""

    def __init__(
        self,
        corpus: Corpus,
        *,
        seed: int,
        batch: BatchConfig,
        curriculum: tuple[StageConfig, ...] = (),
        min_seconds: float = 0.0,
        max_seconds: float | None = None,
        selection: Selection | None = None,
        origin: Origin = Origin(),
    ) -> None:
        """UserError for limits that admit no clip and a budget that a clip exceeds.

        ``selection`` is by default all clips that are not set apart for validation.
        """
        self.corpus, self.seed, self.batch = corpus, seed, batch
        self.min_seconds, self.max_seconds = min_seconds, max_seconds
        self.stages = curriculum
        self.selection = selection or Selection(corpus)
        self.cost = batch.cost
        self._refuse_unknown_columns()
        self.micro_batches = batch.micro_batches
        self.limits = limits = Curriculum(curriculum, min_seconds, max_seconds)
        self.census = Census(
            corpus,
            self.cost,
            most_buckets=batch.buckets,
            min_seconds=min(one.min_seconds for one in limits.every()),
            max_seconds=max(one.max_seconds for one in limits.every()),
            cuts=limits.cuts(),
            selection=self.selection,
        )
        self._refuse_nothing()
        self._refuse_small_budget()
        self.shape = StepShape(
            self.micro_batches,
            tuple(
                max(1, int(batch.budget.micro / max(self.cost.of(b.edge), 1e-9) + 1e-6))
                for b in self.census.buckets
            ),
            batch.window,
        )
        self.tape = Tape(self.census, seed)
        self._begin(origin)

    def _begin(self, origin: Origin) -> None:
        self.origin = origin
        self.epochs = Epochs(self.tape, self.limits, self.shape, (origin.step, origin.epoch))
        rows = max(self.batch.window, *self.shape.clips_per_micro)
        held = max(64, ROWS_HELD // rows)
        self._window = lru_cache(maxsize=held)(self._sorted_window)
        self._slices = lru_cache(maxsize=held)(permutation)
        self._even_cuts = lru_cache(maxsize=64)(self._cut_evenly)

    def _refuse_unknown_columns(self) -> None:
        for source in self.corpus.sources:
            known = ("seconds", *source.index.about["lengths"])
            for name in set(dict(self.cost.weights)) - set(known):
                raise UserError(
                    f"batch.weights: {source.index.folder} has no column {name}; it has "
                    f"{', '.join(known)}"
                )

    def _refuse_nothing(self) -> None:
        if self.census.buckets:
            return
        seconds = np.concatenate([source.index.seconds for source in self.corpus.sources])
        facts = self.selection.fingerprint.items()
        selected = "".join(f", {name}={value!r}" for name, value in facts)
        raise UserError(
            f"data.min_seconds={self.min_seconds:g}, data.max_seconds="
            f"{self.max_seconds}{selected} and data.curriculum admit none of the "
            f"{len(self.corpus)} clips ({seconds.min():.2f} to {seconds.max():.2f} s) in "
            f"{', '.join(str(source.index.folder) for source in self.corpus.sources)}; widen them"
        )

    def _refuse_small_budget(self) -> None:
        budget, longest = self.batch.budget, self.census.longest
        if self.cost.of(longest) <= budget.micro:
            return
        row = self.census.longest_row
        seconds = float(self.corpus.seconds(np.array([row]))[0])
        raise UserError(
            f"{budget.micro_option}={budget.micro:g} is less than the longest clip costs "
            f"({self.corpus.key(row)}, {seconds:.2f} s); set {budget.micro_option} to at least "
            f"{np.ceil(self.cost.of(longest)):.0f} or leave long clips out with data.max_seconds"
        )

    def begun_at(self, origin: Origin) -> Plan:
        """The same plan with its first epoch somewhere else."""
        other = copy(self)
        other._begin(origin)
        return other

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything the order depends on, by the name a user knows it by."""
        return {
            "plan": VERSION,
            "data.sources": [
                f"{source.index.digest} x {source.repeat}" for source in self.corpus.sources
            ],
            "seed": self.seed,
            **{f"batch.{name}": value for name, value in self.batch.model_dump().items()},
            "data.min_seconds": self.min_seconds,
            "data.max_seconds": self.max_seconds,
            "data.curriculum": [stage.model_dump(exclude_defaults=True) for stage in self.stages],
            **self._selected(),
        }

    def _selected(self) -> dict[str, Any]:
        """What the selection adds: figures and splits are no part of an index's digest."""
        added = self.selection.fingerprint
        if not added:
            return {}
        digest = xxhash.xxh3_64_hexdigest(self.census.counts.data)
        return {**added, "clips taken": f"{self.census.totals.sum()} ({digest})"}

    def step(self, step: int) -> StepPlan:
        """What kind of step optimizer step ``step`` is."""
        segment = self.epochs.at(step)
        content = self.epochs.step(segment, step)
        return StepPlan(step, content.bucket, segment, content)

    def steps(self, start: int, stop: int) -> Iterator[StepPlan]:
        """Steps ``start`` to ``stop - 1``."""
        return map(self.step, range(start, stop))

    def share(self, step: StepPlan, rank: int = 0, world_size: int = 1) -> tuple[MicroBatch, ...]:
        """The micro-batches that ``rank`` runs, every ``world_size``-th; by default all."""
        return tuple(
            self.micro_batch(step, index) for index in range(rank, self.micro_batches, world_size)
        )

    def micro_batch(self, step: StepPlan, index: int) -> MicroBatch:
        """Micro-batch ``index`` of a step."""
        if isinstance(step.content, Gathered):
            return self._gathered(step, step.content.rows, index)
        return MicroBatch(step.step, index, step.bucket, self._streamed(step, step.content, index))

    def _gathered(self, step: StepPlan, rows: Rows, index: int) -> MicroBatch:
        cuts = self._even_cuts(step.step)
        share = rows[cuts[index] : cuts[index + 1]]
        counted = len(share) > 0
        return MicroBatch(step.step, index, step.bucket, share if counted else rows[:1], counted)

    def _cut_evenly(self, step: int) -> list[int]:
        """Where to cut a step of gathered clips, ascending by length, into its micro-batches.

        In parts of one number of clips, which are within the budget, or of one cost where their
        costliest is the cheaper: clips moved up from shorter buckets are many and cheap.
        """
        content = self.step(step).content
        assert isinstance(content, Gathered)
        parts, prices = self.micro_batches, self.cost.of(self.census.lengths(content.rows))
        size, larger = divmod(len(prices), parts)
        numbers = np.arange(parts + 1)
        by_number = numbers * size + np.minimum(numbers, larger)
        spent = np.concatenate([[0.0], np.cumsum(prices)])
        by_cost = np.searchsorted(spent, numbers * (spent[-1] / parts))
        by_cost[0], by_cost[-1] = 0, len(prices)
        even: list[int] = min(by_number, by_cost, key=partial(_costliest, prices)).tolist()
        return even

    def _streamed(self, step: StepPlan, content: Streamed, lane: int) -> Rows:
        bucket, epoch, number = content.bucket, step.epoch, content.number
        per_micro = self.shape.clips_per_micro[bucket]
        steps = self.shape.streamed_steps(bucket, self.tape.count(epoch, bucket))
        windows = -(-steps // max(1, self.batch.window // per_micro))
        window = ((number + 1) * windows - 1) // steps
        first, last = window * steps // windows, (window + 1) * steps // windows
        sorted_rows = self._window(
            epoch,
            bucket,
            lane,
            window,
            (lane * steps + first) * per_micro,
            (lane * steps + last) * per_micro,
        )
        # The same slice in every lane: a step's micro-batches are of one length.
        slices = self._slices(last - first, self.seed, Purpose.SLICES, epoch, bucket, window)
        start = int(slices[number - first]) * per_micro
        return sorted_rows[start : start + per_micro]

    def _sorted_window(
        self, epoch: int, bucket: int, lane: int, window: int, start: int, stop: int
    ) -> Rows:
        rows = self.tape.rows(epoch, bucket, start, stop)
        lengths = self.census.lengths(rows)
        return rows[by_length(lengths, self.seed, Purpose.JITTER, epoch, bucket, lane, window)]

    def progress(self, step: int) -> float:
        """Epochs done before ``step``, as a fraction."""
        return self.epochs.progress(step)

    def step_at(self, epochs: float) -> int:
        """The step at which so many epochs are done."""
        return self.epochs.step_at(epochs)

    def withheld(self, step: StepPlan) -> float:
        """The share of the clips, of all that the curriculum ever admits, not yet admitted."""
        totals = self.census.totals
        return 1 - float(totals[list(step.segment.admitted)].sum()) / float(totals.sum())

    def costliest(self) -> tuple[MicroBatch, ...]:
        """What memory must suffice for: most padded audio in one micro-batch, and longest clips."""
        prices = [
            count * self.cost.of(bucket.edge)
            for count, bucket in zip(self.shape.clips_per_micro, self.census.buckets, strict=True)
        ]
        fullest = int(np.argmax(prices))
        return tuple(
            MicroBatch(0, 0, bucket, self._longest_in(bucket), counted=False)
            for bucket in sorted({fullest, len(prices) - 1})
        )

    def _longest_in(self, bucket: int) -> Rows:
        return self.census.longest_rows(bucket, self.shape.clips_per_micro[bucket])


def _costliest(prices: npt.NDArray[np.float64], cuts: Rows) -> float:
    """The largest padded cost of the parts between ``cuts``; infinite where one is empty."""
    counts = np.diff(cuts)
    if len(prices) < len(counts):
        return 0.0  # fewer clips than parts: each is one
    return (
        float((counts * np.maximum.reduceat(prices, cuts[:-1])).max()) if counts.all() else np.inf
    )


def changed_settings(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two fingerprints, one phrase each."""
    return [
        f"{name} was {before.get(name)} and is now {now.get(name)}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
