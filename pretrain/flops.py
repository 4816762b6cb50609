"""How much a run computes: floating-point operations of its steps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pretrain.components import Training
from pretrain.models.protocol import Counted, Family
from shards.corpus import Corpus, Rows


class StepFlops:
    """The FLOPs of training steps, from the model's own count of a forward pass.

    What padding, recomputation and a model that is followed take is not counted.
    """

    def __init__(self, model: Family, training: Training) -> None:
        self._model, self._training = model if isinstance(model, Counted) else None, training
        begins = {treatment.begins for treatment in training.treatments.values()}
        self._thaws = sorted(begin for begin in begins if begin is not None)
        self._passes = lru_cache(maxsize=2)(self._passes_of)

    def of(self, corpus: Corpus, rows: Rows, step: int) -> float:
        """FLOPs of forward and backward passes over clips in ``step`` (counted from 0).

        0 where the model does not count.
        """
        if self._model is None or not len(rows):
            return 0.0
        parts = self._model.flops(corpus, rows)
        passes = self._passes(bisect_right(self._thaws, step), tuple(parts))
        sums = np.array([part.sum() for part in parts.values()])
        return float(sums @ passes)

    def _passes_of(self, thawed: int, prefixes: tuple[str, ...]) -> npt.NDArray[np.float64]:
        step = self._thaws[thawed - 1]
        return np.array(passes(self._training, prefixes, step))


def passes(training: Training, prefixes: Sequence[str], step: int) -> list[float]:
    """How many times its forward FLOPs each part takes in ``step``.

    A backward pass takes as many for the gradient of a part's input, where that part or one before
    it trains, and as many for that of its weights, in the share of them that trains. What
    attention takes for itself backward is shared out alike, so a frozen layer has too little.
    """
    sizes, unused = training.outline.sizes(), training.outline.unused
    found, reached = [], False
    for prefix in prefixes:
        names = [name for name in sizes if name.startswith(prefix) and name not in unused]
        trained = sum(sizes[name] for name in names if training.treatments[name].trains_at(step))
        share = trained / max(1, sum(sizes[name] for name in names))
        reached = reached or share > 0
        found.append(1 + reached + share)
    return found
