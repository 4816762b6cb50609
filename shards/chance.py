"""Random numbers by name: the same words for the same seed and purpose, whatever came before."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Purpose(IntEnum):
    """What words are drawn for; each purpose has a stream of its own."""

    STEPS = 0
    TAPE = 1
    MIX = 2
    JITTER = 3
    SLICES = 4
    LEFTOVERS = 5


def words(count: int, seed: int, purpose: Purpose, *place: int) -> npt.NDArray[np.uint64]:
    """``count`` uint64 words for one place.

    Raw Philox words are the same in every numpy release; Generator's methods need not be.
    """
    stream = np.random.Philox(np.random.SeedSequence([seed, int(purpose), *place]))
    drawn: npt.NDArray[np.uint64] = stream.random_raw(count)
    return drawn


def permutation(count: int, seed: int, purpose: Purpose, *place: int) -> npt.NDArray[np.int64]:
    """The numbers below ``count`` in random order."""
    return np.argsort(words(count, seed, purpose, *place), kind="stable")


def uniform(count: int, seed: int, purpose: Purpose, *place: int) -> npt.NDArray[np.float64]:
    """``count`` numbers in 0..1."""
    return words(count, seed, purpose, *place).astype(np.float64) * 2.0**-64
