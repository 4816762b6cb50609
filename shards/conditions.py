"""What can be asked of the columns of an index, about all rows of a chunk at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Values = Any
"""float32 or float64 [rows], or one Python float."""

ARITHMETIC: dict[str, Callable[[Values, Values], Values]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": lambda left, right: np.where(np.equal(right, 0), np.nan, np.divide(left, right)),
}
COMPARISONS: dict[str, Callable[[Values, Values], Mask]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}


class Chunk(Protocol):
    """Some rows of an index."""

    def numbers(self, column: str) -> Values:
        """A column of numbers, float32 or float64 [rows]."""

    def among(self, column: str, names: frozenset[str]) -> Mask:
        """Whether a column of names holds one of ``names``, bool [rows]."""


class Number(Protocol):
    """A number of each row."""

    def of(self, chunk: Chunk) -> Values:
        """The numbers of all rows, or one that they share; NaN where it is not known."""


class Condition(Protocol):
    """Something that holds for a row or does not."""

    def of(self, chunk: Chunk) -> Mask:
        """Where it holds."""


@dataclass(frozen=True)
class Constant:
    """A number that is written out. It is no numpy number: 0.1 is compared as the column has it."""

    value: float

    def of(self, chunk: Chunk) -> Values:
        return self.value


@dataclass(frozen=True)
class Column:
    """A column of numbers."""

    name: str

    def of(self, chunk: Chunk) -> Values:
        return chunk.numbers(self.name)


@dataclass(frozen=True)
class Arithmetic:
    """Two numbers in one; a quotient by zero is not known."""

    sign: str
    left: Number
    right: Number

    def of(self, chunk: Chunk) -> Values:
        return ARITHMETIC[self.sign](self.left.of(chunk), self.right.of(chunk))


@dataclass(frozen=True)
class Comparison:
    """Two numbers compared; False where one of them is not known."""

    sign: str
    left: Number
    right: Number

    def of(self, chunk: Chunk) -> Mask:
        left, right = self.left.of(chunk), self.right.of(chunk)
        known: Mask = np.equal(left, left) & np.equal(right, right)
        return known & COMPARISONS[self.sign](left, right)


@dataclass(frozen=True)
class AmongNumbers:
    """Whether a number is one of several; False where it is not known."""

    number: Number
    values: tuple[float, ...]
    wanted: bool

    def of(self, chunk: Chunk) -> Mask:
        number = np.asarray(self.number.of(chunk))
        found = np.isin(number, np.array(self.values, dtype=number.dtype))
        known: Mask = ~np.isnan(number)
        return known & np.equal(found, self.wanted)


@dataclass(frozen=True)
class AmongNames:
    """Whether a column of names holds one of several."""

    column: str
    names: frozenset[str]
    wanted: bool

    def of(self, chunk: Chunk) -> Mask:
        return np.equal(chunk.among(self.column, self.names), self.wanted)


@dataclass(frozen=True)
class Not:
    """The opposite."""

    condition: Condition

    def of(self, chunk: Chunk) -> Mask:
        return np.logical_not(self.condition.of(chunk))


@dataclass(frozen=True)
class All:
    """Several conditions at once."""

    conditions: tuple[Condition, ...]

    def of(self, chunk: Chunk) -> Mask:
        return reduce(np.logical_and, (condition.of(chunk) for condition in self.conditions))


@dataclass(frozen=True)
class AnyOf:
    """At least one of several conditions."""

    conditions: tuple[Condition, ...]

    def of(self, chunk: Chunk) -> Mask:
        return reduce(np.logical_or, (condition.of(chunk) for condition in self.conditions))
