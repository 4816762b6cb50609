"""Which step is what: epochs, their segments between curriculum changes, and their steps.

All of it is arithmetic on clip counts; clips themselves are looked at only for the few that do
not fill steps of their bucket.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import lcm

import numpy as np
import numpy.typing as npt

from shards.chance import Purpose, permutation, uniform
from shards.corpus import Rows
from shards.curriculum import Curriculum, Limits
from shards.errors import UserError
from shards.tape import Tape

JITTER = 0.04
"""Lengths are sorted to within 4 %, so that the same clips do not meet in every epoch."""
MOST_SORTED = 65_536
LONGEST_PERIOD = 1000
"""Epochs after which repeat factors begin anew; a longer period is walked epoch by epoch."""

Taken = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class StepShape:
    """What the plan's arithmetic needs of the run: G and how many clips a micro-batch holds."""

    micro_batches: int
    clips_per_micro: tuple[int, ...]
    window: int

    def clips(self, bucket: int) -> int:
        """Clips of a full step."""
        return self.micro_batches * self.clips_per_micro[bucket]

    def streamed_steps(self, bucket: int, clips: int) -> int:
        """Steps that a bucket of so many clips fills from its lanes.

        A bucket that is no larger than a window, or a few steps, is sorted as a whole instead.
        """
        whole = min(max(self.window, 8 * self.clips(bucket)), MOST_SORTED)
        return clips // self.clips(bucket) if clips > whole else 0


@dataclass(frozen=True)
class Segment:
    """A stretch of one epoch under the same limits, as planned when it begins.

    ``begun`` and ``taken`` say what earlier segments of the epoch have used: steps of each
    bucket's lanes, and which of its left-over clips. ``steps`` reaches to the epoch's end; a
    change of limits can cut it short.
    """

    epoch: int
    number: int
    first_step: int
    position: int
    limits: Limits
    admitted: tuple[int, ...]
    begun: Mapping[int, int]
    taken: Mapping[int, Taken]
    streamed: Mapping[int, int]
    chained: Mapping[int, int]
    short: bool

    @property
    def steps(self) -> int:
        """Steps from here to the end of the epoch if limits do not change."""
        return sum(self.streamed.values()) + sum(self.chained.values()) + self.short


@dataclass(frozen=True)
class Streamed:
    """The step numbered ``number`` of a bucket's lanes."""

    bucket: int
    number: int


@dataclass(frozen=True)
class Gathered:
    """A step of clips that were left over, sorted by length, [clips]."""

    bucket: int
    rows: Rows = field(repr=False)


@dataclass(frozen=True)
class _Order:
    """The steps of a segment: ``code`` < buckets is a step of that bucket's lanes, its
    ``occurrence``-th in the segment; a higher code is a step of left-over clips."""

    code: npt.NDArray[np.int32]
    occurrence: npt.NDArray[np.int32]


class Epochs:
    """Finds the segment of any step; steps are counted from ``origin``'s step and epoch."""

    def __init__(
        self,
        tape: Tape,
        curriculum: Curriculum,
        shape: StepShape,
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        self.tape, self.curriculum, self.shape = tape, curriculum, shape
        self._buckets = range(len(tape.census.buckets))
        self._marks = curriculum.marks()
        self._period = lcm(*(s.repeat.denominator for s in tape.census.corpus.sources))
        self._order = lru_cache(maxsize=2)(self._ordered)
        self._gathered = lru_cache(maxsize=2)(self._gather)
        self._left_rows = lru_cache(maxsize=2 * len(self._buckets))(self._read_left_rows)
        self._begin_epoch = lru_cache(maxsize=8)(self._first_segment)
        self._refuse_empty_stages()
        self._starts: list[int] = []
        self._segments: list[Segment] = []
        self._settled: tuple[Segment, list[int]] | None = None
        self._add(self._begin_epoch(origin[1], origin[0]))

    def at(self, step: int) -> Segment:
        """The segment that ``step`` lies in; ValueError for a step before the origin."""
        if step < self._starts[0]:
            raise ValueError(
                f"step {step} lies before step {self._starts[0]}, where this plan begins"
            )
        while step >= self._reach():
            self._go_on()
        if self._settled and step >= self._settled[0].first_step:
            return self._periodic(step)
        return self._segments[bisect_right(self._starts, step) - 1]

    def step(self, segment: Segment, step: int) -> Streamed | Gathered:
        """What ``step`` of ``segment`` trains on."""
        local = step - segment.first_step
        key = (segment.epoch, segment.number, segment.first_step)
        if segment.short and local == segment.steps - 1:
            return self._gathered(key)[-1]
        order = self._order(key)
        code = int(order.code[local])
        if code < len(self._buckets):
            return Streamed(code, segment.begun.get(code, 0) + int(order.occurrence[local]))
        return self._gathered(key)[code - len(self._buckets)]

    def progress(self, step: int) -> float:
        """Epochs done before ``step``, as a fraction."""
        segment = self.at(step)
        position = segment.position + step - segment.first_step
        return segment.epoch + position / (position + self._epoch_end(segment) - step)

    def step_at(self, epochs: float) -> int:
        """The step at which ``epochs`` epochs are done, to the nearest step."""
        whole = int(epochs)
        segment = self.at(self._starts[0])
        while segment.epoch < whole:
            segment = self.at(self._epoch_end(segment))
        if segment.epoch > whole:
            return segment.first_step
        end = self._epoch_end(segment)
        return segment.first_step + round((epochs - whole) * (end - segment.first_step))

    def limits_change(self, segment: Segment) -> int | None:
        """The step inside the epoch at which other buckets are admitted, if there is one."""
        for mark in self._marks[bisect_right(self._marks, segment.first_step) :]:
            if mark >= segment.first_step + segment.steps:
                return None
            limits = self.curriculum.at(segment.epoch, mark)
            if self._admitted(limits) != segment.admitted or limits.stage != segment.limits.stage:
                return mark
        return None

    def end(self, segment: Segment) -> int:
        """The step after its last one."""
        return self.limits_change(segment) or segment.first_step + segment.steps

    def _reach(self) -> float:
        return float("inf") if self._settled else self.end(self._segments[-1])

    def _add(self, segment: Segment) -> None:
        self._segments.append(segment)
        self._starts.append(segment.first_step)

    def _go_on(self) -> None:
        last = self._segments[-1]
        end = self.end(last)
        if end < last.first_step + last.steps:
            rest = self._continue_epoch(last, end)
            if rest.steps:  # the new limits may leave nothing of the epoch
                self._add(rest)
                return
        following = self._begin_epoch(last.epoch + 1, end)
        settled = self.curriculum.settled(following.epoch, following.first_step)
        if settled and self._period <= LONGEST_PERIOD:
            self._settled = (following, self._period_lengths(following))
        else:
            self._add(following)

    def _period_lengths(self, first: Segment) -> list[int]:
        """Steps from the first epoch of a period to the end of each of its epochs."""
        ends, total = [], 0
        for epoch in range(first.epoch, first.epoch + self._period):
            total += self._segment(epoch, 0, first.first_step + total, 0, {}, {}).steps
            ends.append(total)
        return ends

    def _periodic(self, step: int) -> Segment:
        first, ends = self._settled  # type: ignore[misc]
        periods, rest = divmod(step - first.first_step, ends[-1])
        number = bisect_right(ends, rest)
        start = first.first_step + periods * ends[-1] + (ends[number - 1] if number else 0)
        return self._begin_epoch(first.epoch + periods * self._period + number, start)

    def _epoch_end(self, segment: Segment) -> int:
        following = self.at(self.end(segment))
        while following.epoch == segment.epoch:
            following = self.at(self.end(following))
        return following.first_step

    def _refuse_empty_stages(self) -> None:
        for limits in self.curriculum.every():
            if not self._admitted(limits):
                raise UserError(
                    f"data.curriculum[{limits.stage}]: its limits ({limits.min_seconds:g} to "
                    f"{limits.max_seconds:g} s) admit no clip; widen them"
                )

    def _first_segment(self, epoch: int, step: int) -> Segment:
        """The epoch's first segment; an epoch that holds no clip at all is passed over."""
        while True:
            segment = self._segment(epoch, 0, step, 0, {}, {})
            if segment.steps:
                return segment
            epoch += 1

    def _continue_epoch(self, last: Segment, step: int) -> Segment:
        begun, taken = self._used(last, step)
        position = last.position + step - last.first_step
        return self._segment(last.epoch, last.number + 1, step, position, begun, taken)

    def _segment(
        self,
        epoch: int,
        number: int,
        step: int,
        position: int,
        begun: Mapping[int, int],
        taken: Mapping[int, Taken],
    ) -> Segment:
        limits = self.curriculum.at(epoch, step)
        admitted = self._admitted(limits)
        streamed, chained, carried = {}, {}, 0
        for bucket in admitted:
            clips = self.tape.count(epoch, bucket)
            full = self.shape.streamed_steps(bucket, clips)
            streamed[bucket] = full - begun.get(bucket, 0)
            used = int(taken[bucket].sum()) if bucket in taken else 0
            left = carried + clips - full * self.shape.clips(bucket) - used
            chained[bucket], carried = divmod(left, self.shape.clips(bucket))
        return Segment(
            epoch=epoch,
            number=number,
            first_step=step,
            position=position,
            limits=limits,
            admitted=admitted,
            begun=begun,
            taken=taken,
            streamed=streamed,
            chained=chained,
            short=carried > 0,
        )

    def _admitted(self, limits: Limits) -> tuple[int, ...]:
        low = np.float32(limits.min_seconds)
        below, high = np.nextafter(low, np.float32(-np.inf)), np.float32(limits.max_seconds)
        buckets = self.tape.census.buckets
        return tuple(
            number
            for number, bucket in enumerate(buckets)
            if bucket.above >= below and bucket.up_to <= high
        )

    def _used(self, last: Segment, step: int) -> tuple[dict[int, int], dict[int, Taken]]:
        """What the epoch has used when ``last`` is cut at ``step``."""
        key = (last.epoch, last.number, last.first_step)
        codes = self._order(key).code[: step - last.first_step]
        done = np.bincount(codes, minlength=len(self._buckets))
        begun = {b: last.begun.get(b, 0) + int(done[b]) for b in self._buckets}
        taken = {bucket: mask.copy() for bucket, mask in last.taken.items()}
        chain = self._chain(key)
        for code in codes[codes >= len(self._buckets)]:
            for bucket, places in _by_bucket(chain[int(code) - len(self._buckets)][1]):
                if bucket not in taken:
                    taken[bucket] = np.zeros(self._left_over(last.epoch, bucket), dtype=np.bool_)
                taken[bucket][places] = True
        return begun, taken

    def _left_over(self, epoch: int, bucket: int) -> int:
        clips = self.tape.count(epoch, bucket)
        return clips - self.shape.streamed_steps(bucket, clips) * self.shape.clips(bucket)

    def _find(self, key: tuple[int, int, int]) -> Segment:
        return self.at(key[2])

    def _ordered(self, key: tuple[int, int, int]) -> _Order:
        segment = self._find(key)
        streamed = np.repeat(
            np.array(list(segment.streamed), dtype=np.int32), list(segment.streamed.values())
        )
        gathered = len(self._buckets) + np.arange(sum(segment.chained.values()), dtype=np.int32)
        codes = np.concatenate([streamed, gathered]).astype(np.int32)
        order = permutation(
            len(codes), self.tape.seed, Purpose.STEPS, segment.epoch, segment.number
        )
        codes = codes[order]
        return _Order(codes, _occurrences(codes))

    def _gather(self, key: tuple[int, int, int]) -> list[Gathered]:
        segment = self._find(key)
        return [
            Gathered(bucket, self._rows(segment.epoch, places))
            for bucket, places in self._chain(key)
        ]

    def _chain(self, key: tuple[int, int, int]) -> list[tuple[int, Rows]]:
        """The left-over clips' steps in ascending order, the epoch's short last one at the end.

        Clips are named by bucket and place among its left-over clips, see `_by_bucket`.
        """
        segment = self._find(key)
        steps: list[tuple[int, Rows]] = []
        carried = np.empty(0, dtype=np.int64)
        for bucket in segment.admitted:
            free = np.arange(self._left_over(segment.epoch, bucket), dtype=np.int64)
            if bucket in segment.taken:
                free = free[~segment.taken[bucket]]
            pool = self._sorted(segment, bucket, np.concatenate([carried, (bucket << 40) | free]))
            size, full = self.shape.clips(bucket), segment.chained[bucket]
            steps += [(bucket, pool[n * size : (n + 1) * size]) for n in range(full)]
            carried = pool[full * size :]
        if segment.short:
            steps.append((segment.admitted[-1], carried))
        return steps

    def _sorted(self, segment: Segment, bucket: int, places: Rows) -> Rows:
        lengths = self.tape.census.lengths(self._rows(segment.epoch, places))
        place = (segment.epoch, segment.number, bucket)
        return places[by_length(lengths, self.tape.seed, Purpose.LEFTOVERS, *place)]

    def _rows(self, epoch: int, places: Rows) -> Rows:
        rows = np.empty(len(places), dtype=np.int64)
        buckets = places >> 40
        for bucket, own in _by_bucket(places):
            rows[buckets == bucket] = self._left_rows(epoch, bucket)[own]
        return rows

    def _read_left_rows(self, epoch: int, bucket: int) -> Rows:
        clips = self.tape.count(epoch, bucket)
        return self.tape.rows(epoch, bucket, clips - self._left_over(epoch, bucket), clips)


def by_length(
    lengths: npt.NDArray[np.float64], seed: int, purpose: Purpose, *place: int
) -> npt.NDArray[np.int64]:
    """Positions in ascending order of length, to within JITTER."""
    # Products only: a logarithm's last bit differs between processors, and with it the order.
    noise = 1 + JITTER * uniform(len(lengths), seed, purpose, *place)
    return np.argsort(lengths * noise, kind="stable")


def _by_bucket(places: Rows) -> Iterator[tuple[int, Rows]]:
    buckets = places >> 40
    for bucket in np.unique(buckets).tolist():
        yield int(bucket), places[buckets == bucket] & ((1 << 40) - 1)


def _occurrences(codes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """For each entry how often its code came before."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    begins = np.searchsorted(ordered, ordered, side="left")
    counted = np.empty(len(codes), dtype=np.int32)
    counted[order] = np.arange(len(codes)) - begins
    return counted
