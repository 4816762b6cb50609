"""Another try, after a wait that grows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import SystemRandom
from typing import TypeVar

from shards.stores.store import ReadFailure

LONGEST_SECONDS = 30.0

Thing = TypeVar("Thing")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Patience:
    """How often to try again, and the wait in seconds before the first time."""

    retries: int
    backoff_seconds: float

    def waits(self) -> Iterator[float]:
        """Seconds to wait before each retry: doubling, capped, and up to half of it by chance."""
        # Not random.random(): the seeded generators belong to the training.
        chance = SystemRandom()
        for retry in range(self.retries):
            longest = min(LONGEST_SECONDS, self.backoff_seconds * 2**retry)
            yield longest * chance.uniform(0.5, 1)


def persist(
    attempt: Callable[[Sequence[Thing], int], list[Answer]],
    things: Sequence[Thing],
    patience: Patience,
) -> list[Answer]:
    """``attempt``'s answers to all things, those with passing failures attempted again together.

    ``attempt`` is told how many tries came before.
    """
    answers = attempt(things, 0)
    for retry, wait in enumerate(patience.waits(), 1):
        again = [
            n
            for n, answer in enumerate(answers)
            if isinstance(answer, ReadFailure) and answer.passing
        ]
        if not again:
            break
        time.sleep(wait)
        better = attempt([things[n] for n in again], retry)
        for n, answer in zip(again, better, strict=True):
            answers[n] = answer
    return answers
