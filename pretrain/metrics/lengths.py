"""How long the clips are that a run has trained on, beside all that it may train on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pretrain.metrics.record import StepRecord
from pretrain.tally import Tally

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Lengths:
    """Histograms over `pretrain.tally.EDGES`; ``corpus`` counts the clips of the whole course."""

    tally: Tally
    corpus: Callable[[], Counts]
    every: int

    def due(self, record: StepRecord) -> Mapping[str, Counts]:
        """The histograms by their tags, one step in ``every`` and at the target."""
        if record.step % self.every and record.step != record.target:
            return {}
        return {
            "data/clip_seconds/trained": self.tally.lengths.copy(),
            "data/clip_seconds/corpus": self.corpus(),
        }
