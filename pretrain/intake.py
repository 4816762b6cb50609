"""One step's data on one rank, and what all ranks together know of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from pretrain.flops import StepFlops
from pretrain.models.protocol import Family
from pretrain.processes import Processes
from pretrain.start import Course
from pretrain.tally import Seen, Tally, by_length
from shards.collate import Batch
from shards.errors import UserError
from shards.plan import Plan
from shards.reading import Failure


@dataclass(frozen=True)
class StepData:
    """``batches`` and the wait for them, ``own_wait``, are this rank's; all else is the same on
    every rank.

    ``tokens`` are the targets of the clips that are really there and ``padded_seconds`` their
    audio after padding; ``balance`` is the heaviest rank's padded audio over the mean;
    ``waited`` is the mean wait, ``flops`` what is computed (`StepFlops`). ``mistake`` says why the
    data cannot be read on.
    """

    batches: tuple[Batch, ...]
    own_wait: float
    tokens: int
    clips: int
    seconds: float
    padded_seconds: float
    balance: float
    waited: float
    flops: float
    failures: tuple[Failure, ...]
    mistake: str | None

    @property
    def padding(self) -> float:
        """The share of the padded audio that is padding."""
        return max(0.0, 1 - self.seconds / self.padded_seconds) if self.padded_seconds else 0.0


class Intake:
    """This rank's ``batches``, ``count`` of them a step, and what all ranks know of each step.

    All ranks call every method together.
    """

    def __init__(
        self,
        batches: Iterator[Batch],
        count: int,
        course: Course,
        model: Family,
        processes: Processes,
        before: Seen,
    ) -> None:
        """``before`` is what the run had trained on when the course begins."""
        self._batches, self._count, self._processes = batches, count, processes
        self._plan, self._model = course.plan, model
        self._flops = StepFlops(model, course.training)
        self.tally = Tally(before)

    def take(self) -> StepData:
        """This rank's next batches, and the sums over all ranks.

        All ranks learn together of clips that could not be read, before any of them goes on.
        """
        processes, corpus = self._processes, self._plan.corpus
        asked = time.perf_counter()
        mine, mistake = _pull(self._batches, self._count)
        waited = time.perf_counter() - asked
        rows = np.concatenate([batch.rows for batch in mine] or [np.empty(0, np.int64)])
        own_seconds = corpus.seconds(rows)
        padded = sum(_padded_seconds(self._plan, batch) for batch in mine)
        own = [
            int(self._model.targets(corpus, rows).sum()),
            len(rows),
            float(own_seconds.sum()),
            waited,
            sum(len(batch.failures) for batch in mine),
            mistake is not None,
            self._flops.of(corpus, rows, mine[0].step) if mine else 0.0,
        ]
        sums = processes.sum(
            np.concatenate([own, processes.by_rank(padded), by_length(own_seconds)])
        )
        tokens, clips, seconds, waits, failed, stuck, flops, *rest = sums
        lengths, loads = rest[processes.world_size :], rest[: processes.world_size]
        failures: list[tuple[Failure, ...]] = []
        mistakes: list[str | None] = []
        if failed or stuck:
            told = tuple(failure for batch in mine for failure in batch.failures)
            gathered = processes.gather((told, mistake))
            failures, mistakes = [entry[0] for entry in gathered], [entry[1] for entry in gathered]
        total = sum(loads)
        data = StepData(
            batches=mine,
            own_wait=waited,
            tokens=int(tokens),
            clips=int(clips),
            seconds=seconds,
            padded_seconds=total,
            balance=max(loads) * processes.world_size / total if total else 1.0,
            waited=waits / processes.world_size,
            flops=flops,
            failures=tuple(failure for entry in failures for failure in entry),
            mistake=next((said for said in mistakes if said), None),
        )
        if data.mistake is None:  # else nothing is trained on
            self.tally.add(data.clips, data.seconds, np.array(lengths), data.failures)
        return data


def _pull(batches: Iterator[Batch], count: int) -> tuple[tuple[Batch, ...], str | None]:
    taken: list[Batch] = []
    try:
        taken.extend(islice(batches, count))
    except UserError as error:
        return tuple(taken), str(error)
    return tuple(taken), None


def _padded_seconds(plan: Plan, batch: Batch) -> float:
    if not len(batch.rows):
        return 0.0
    return len(batch.rows) * float(plan.corpus.seconds(batch.rows).max())
