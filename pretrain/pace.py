"""Which rank holds the others up.

Collectives make the steps of all ranks last equally long. What tells them apart is how long each
was busy by itself: waiting for its data, and in forward passes. Backward passes do not count: in
ZeRO-2 and 3 DeepSpeed exchanges gradients in each, where a rank waits for the slowest. ZeRO-3
gathers weights in forward passes too, so there the figures of all ranks are nearer to one another
than the truth, and a rank that computes slowly may go unnamed; one that lacks data does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONSPICUOUS = 1.2
"""The slowest rank is named from so many times the median on."""
LEAST_STEPS = 20
"""Steps that are looked at together at least."""


@dataclass(frozen=True)
class Pace:
    """How long each rank was busy in one step: seconds, [world size]."""

    seconds: NDArray[np.float64]

    @property
    def slowest(self) -> int:
        """The rank that was busy longest."""
        return int(self.seconds.argmax())

    @property
    def fastest(self) -> int:
        """The rank that was busy for the shortest time."""
        return int(self.seconds.argmin())

    @property
    def median(self) -> float:
        """Seconds of the median rank; of two, their mean."""
        return float(np.median(self.seconds))

    @property
    def slowest_over_median(self) -> float:
        """How many times as long as the median the slowest rank took."""
        return float(self.seconds.max()) / self.median if self.median else 1.0

    @property
    def fastest_over_median(self) -> float:
        """What part of the median's time the fastest rank took."""
        return float(self.seconds.min()) / self.median if self.median else 1.0

    def figures(self) -> dict[str, float]:
        """What the log keeps of it: nothing where no step was timed before."""
        if not self.seconds.any():
            return {}
        return {
            "slowest_rank": self.slowest,
            "slowest_seconds": float(self.seconds.max()),
            "median_seconds": self.median,
            "slowest_over_median": self.slowest_over_median,
            "fastest_rank": self.fastest,
            "fastest_seconds": float(self.seconds.min()),
            "fastest_over_median": self.fastest_over_median,
        }


class Stragglers:
    """Finds a rank that is slow step after step; ``hosts`` are the ranks' machines."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts = hosts
        self._begin()

    def _begin(self) -> None:
        self._times_slowest = np.zeros(len(self._hosts), np.int64)
        self._seconds = np.zeros(len(self._hosts))
        self._medians = 0.0

    def add(self, pace: Pace) -> None:
        """Count one more step."""
        self._times_slowest[pace.slowest] += 1
        self._seconds += pace.seconds
        self._medians += pace.median

    def told(self) -> str | None:
        """A line on the rank that held up the steps since the last judgement, if one did.

        It was the slowest in more than half of them, and on average took more than `CONSPICUOUS`
        times as long as the median rank. Fewer than `LEAST_STEPS` are not judged yet.
        """
        steps = int(self._times_slowest.sum())
        if steps < LEAST_STEPS:
            return None
        rank = int(self._times_slowest.argmax())
        often = 2 * self._times_slowest[rank] > steps
        own, median = self._seconds[rank] / steps, self._medians / steps
        self._begin()
        if not often or own <= CONSPICUOUS * median:
            return None
        return (
            f"rank {rank} on {self._hosts[rank]} is the slowest: busy {own:.3f} s a step, the "
            f"median rank {median:.3f} s"
        )
