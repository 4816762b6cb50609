"""What a clip costs a step: its length, in seconds or a model's own unit, and attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

_Lengths = TypeVar("_Lengths", float, npt.NDArray[np.float64])


@dataclass(frozen=True)
class Cost:
    """A clip's length is a weighted sum of index columns, in ``unit``.

    A clip of length x costs x + x**2 / ``attention``: at the length ``attention`` the quadratic
    term has doubled the cost. None leaves the term out. A padded micro-batch costs its clips
    times the cost of its longest.
    """

    unit: str = "seconds"
    weights: tuple[tuple[str, float], ...] = (("seconds", 1.0),)
    attention: float | None = None

    def of(self, length: _Lengths) -> _Lengths:
        """The cost of one clip of ``length``, or of each in an array."""
        if self.attention is None:
            return length
        return length + length * length / self.attention
