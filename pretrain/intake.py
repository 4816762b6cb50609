"""One step's data on one rank, and what all ranks together know of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from pretrain.engine import Processes
from pretrain.models.protocol import Family
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
    ``waited`` is the mean wait. ``mistake`` says why the data cannot be read on.
    """

    batches: tuple[Batch, ...]
    own_wait: float
    tokens: int
    clips: int
    seconds: float
    padded_seconds: float
    balance: float
    waited: float
    failures: tuple[Failure, ...]
    mistake: str | None

    @property
    def padding(self) -> float:
        """The share of the padded audio that is padding."""
        return max(0.0, 1 - self.seconds / self.padded_seconds) if self.padded_seconds else 0.0


def take_step(
    batches: Iterator[Batch], count: int, plan: Plan, model: Family, processes: Processes
) -> StepData:
    """This rank's next ``count`` batches, and the sums over all ranks.

    All ranks learn together of clips that could not be read, before any of them goes on.
    """
    asked = time.perf_counter()
    mine, mistake = _pull(batches, count)
    waited = time.perf_counter() - asked
    padded = sum(_padded_seconds(plan, batch) for batch in mine)
    tokens, clips, seconds, total, waits, failed, stuck = processes.sum(
        [
            sum(int(model.targets(plan.corpus, batch.rows).sum()) for batch in mine),
            sum(len(batch.rows) for batch in mine),
            sum(float(plan.corpus.seconds(batch.rows).sum()) for batch in mine),
            padded,
            waited,
            sum(len(batch.failures) for batch in mine),
            mistake is not None,
        ]
    )
    failures: list[tuple[Failure, ...]] = []
    mistakes: list[str | None] = []
    if failed or stuck:
        own = tuple(failure for batch in mine for failure in batch.failures)
        gathered = processes.gather((own, mistake))
        failures, mistakes = [entry[0] for entry in gathered], [entry[1] for entry in gathered]
    heaviest = processes.largest(padded)
    return StepData(
        batches=mine,
        own_wait=waited,
        tokens=int(tokens),
        clips=int(clips),
        seconds=seconds,
        padded_seconds=total,
        balance=heaviest * processes.world_size / total if total else 1.0,
        waited=waits / processes.world_size,
        failures=tuple(failure for entry in failures for failure in entry),
        mistake=next((said for said in mistakes if said), None),
    )


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
