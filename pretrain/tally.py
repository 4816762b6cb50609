"""What a run has trained on so far, exactly, over all of its starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from pretrain.metrics.record import StepRecord
    from shards.reading import Failure

EDGES: npt.NDArray[np.float64] = np.append(np.arange(0.0, 40.5, 0.5), np.inf)
"""Where lengths of clips are told apart, in seconds."""


class Seen(BaseModel):
    """What a checkpoint keeps of it: clips and their seconds, how many of them are of each length
    (between `EDGES`), and how many could not be read, by kind. Repeated clips count again.
    """

    model_config = ConfigDict(frozen=True)

    clips: int = 0
    seconds: float = 0.0
    lengths: tuple[int, ...] = ()
    errors: dict[str, int] = {}


class Tally:
    """Counts what all ranks together train on; every rank has the same."""

    def __init__(self, before: Seen) -> None:
        self._clips, self._seconds = before.clips, before.seconds
        self._errors = Counter[str](before.errors)
        self.lengths = np.zeros(len(EDGES) - 1, np.int64)
        self.lengths[: len(before.lengths)] = before.lengths

    def add(
        self,
        clips: int,
        seconds: float,
        lengths: npt.NDArray[np.float64],
        failures: Sequence[Failure],
    ) -> None:
        """Count a step; ``lengths`` as `by_length`."""
        self._clips += clips
        self._seconds += seconds
        self.lengths += lengths.astype(np.int64)
        self._errors.update(failure.kind for failure in failures)

    @property
    def seen(self) -> Seen:
        """All that has been counted."""
        return Seen(
            clips=self._clips,
            seconds=self._seconds,
            lengths=tuple(self.lengths.tolist()),
            errors=dict(self._errors),
        )

    def read(self, record: StepRecord) -> Mapping[str, float]:
        """As `pretrain.metrics.gauges.Gauge`."""
        return {
            "data/clips_seen": self._clips,
            "data/hours_seen": round(self._seconds / 3600, 6),
            **{f"health/data_errors/{kind}": count for kind, count in self._errors.items()},
        }


def by_length(seconds: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """How many clips lie between each two of `EDGES`, float64 [len(EDGES) - 1]."""
    return np.histogram(seconds, EDGES)[0].astype(np.float64)
