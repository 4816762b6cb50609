"""``data.filter``: which clips a run takes, as a condition on the columns of the index.

It looks like Python and is read with Python's own grammar, but only what stands here is understood
and nothing is ever evaluated as code.
"""

from __future__ import annotations

import ast
import io
import tokenize
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from shards.conditions import (
    ARITHMETIC,
    All,
    AmongNames,
    AmongNumbers,
    AnyOf,
    Arithmetic,
    Chunk,
    Column,
    Comparison,
    Condition,
    Constant,
    Mask,
    Not,
    Number,
)
from shards.errors import UserError

NAME_COLUMNS = ("speaker", "language", "source", "split")
"""Columns of names; all others are numbers."""
MAX_CHARACTERS = 20_000
MAX_DEPTH = 100

_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}


@dataclass(frozen=True)
class Filter:
    """A condition on index columns.

    Comparisons, also chained (1 < seconds <= 30), of numbers and columns with + - * /, joined by
    and, or, not; names are compared by ==, != and, as numbers are too, by in and not in a list.
    A comparison with a figure that is not known for a clip is False.

    Example: ``Filter.parse("snr_db > 20 and language in ['en', 'zh']").columns`` is
    ("snr_db", "language").
    """

    text: str
    columns: tuple[str, ...]
    condition: Condition

    @classmethod
    def parse(cls, text: str) -> Filter:
        """UserError naming data.filter, for what is not understood and where it is."""
        reading = _Reading(" ".join(text.splitlines()).strip())
        return cls(reading.text, *reading.all())

    def mask(self, chunk: Chunk) -> Mask:
        """Which rows of ``chunk`` satisfy it, bool [rows]."""
        with np.errstate(all="ignore"):
            return self.condition.of(chunk)


class _Reading:
    """One text being read; ``columns`` are those that it named so far."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.columns: dict[str, None] = {}

    def all(self) -> tuple[tuple[str, ...], Condition]:
        body = self._tree()
        condition = self._condition(body)
        if not self.columns:
            raise self._wrong(body, "names no column of the index")
        return tuple(self.columns), condition

    def _tree(self) -> ast.expr:
        if len(self.text) > MAX_CHARACTERS:
            raise self._refused(f"has more than {MAX_CHARACTERS} characters")
        self._refuse_comment()
        try:
            tree = ast.parse(self.text, mode="eval").body
        except SyntaxError as error:
            place = f"at character {error.offset or 1} ({error.msg})"
            raise self._refused(f"is not understood {place}") from error
        except (ValueError, MemoryError, RecursionError) as error:
            raise self._refused("is not understood") from error
        level: list[ast.AST] = [tree]
        for _ in range(MAX_DEPTH):
            level = [child for node in level for child in ast.iter_child_nodes(node)]
        if level:
            raise self._refused(f"is nested more than {MAX_DEPTH} deep")
        return tree

    def _refuse_comment(self) -> None:
        """Lines are joined, by YAML or here: a comment would hide all that follows."""
        try:
            for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
                if token.type == tokenize.COMMENT:
                    raise self._refused(f"has a comment, # at character {token.start[1] + 1}")
        except (tokenize.TokenError, SyntaxError, ValueError):
            return  # the grammar says what is wrong, and where

    def _condition(self, node: ast.expr) -> Condition:
        if isinstance(node, ast.BoolOp):
            parts = tuple(map(self._condition, node.values))
            return All(parts) if isinstance(node.op, ast.And) else AnyOf(parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return Not(self._condition(node.operand))
        if isinstance(node, ast.Compare):
            sides = pairwise([node.left, *node.comparators])
            pairs = zip(sides, node.ops, strict=True)
            return All(tuple(self._pair(left, op, right) for (left, right), op in pairs))
        raise self._wrong(node, "is no condition")

    def _pair(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> Condition:
        if isinstance(operator, ast.In | ast.NotIn):
            return self._among(left, right, isinstance(operator, ast.In))
        sign = _COMPARISONS.get(type(operator))
        if sign is None:
            raise self._wrong(right, "is compared by 'is'")
        if _is_name(left) or _is_name(right):
            return self._same_name(left, sign, right)
        return Comparison(sign, self._number(left), self._number(right))

    def _same_name(self, left: ast.expr, sign: str, right: ast.expr) -> Condition:
        column, name = (left, right) if isinstance(left, ast.Name) else (right, left)
        if not isinstance(column, ast.Name):
            raise self._wrong(column, "is compared with no column")
        if column.id not in NAME_COLUMNS:
            raise self._wrong(column, "is a number compared with a name")
        if sign not in ("==", "!="):
            raise self._wrong(column, f"is a name and has no {sign}")
        return AmongNames(self._named(column), frozenset([self._name(name)]), sign == "==")

    def _among(self, item: ast.expr, group: ast.expr, wanted: bool) -> Condition:
        if not isinstance(group, ast.List | ast.Tuple):
            raise self._wrong(group, "is no list")
        if isinstance(item, ast.Name) and item.id in NAME_COLUMNS:
            names = frozenset(map(self._name, group.elts))
            return AmongNames(self._named(item), names, wanted)
        values = [self._number(value) for value in group.elts]
        for node, value in zip(group.elts, values, strict=True):
            if not isinstance(value, Constant):
                raise self._wrong(node, "is no constant")
        constants = tuple(value.value for value in values if isinstance(value, Constant))
        return AmongNumbers(self._number(item), constants, wanted)

    def _number(self, node: ast.expr) -> Number:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return self._constant(node, node.value)
        if isinstance(node, ast.Name) and node.id not in NAME_COLUMNS:
            return Column(self._named(node))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            sign = "-" if isinstance(node.op, ast.USub) else "+"
            return _arithmetic(sign, Constant(0.0), self._number(node.operand))
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            left, right = self._number(node.left), self._number(node.right)
            return _arithmetic(_ARITHMETIC[type(node.op)], left, right)
        raise self._wrong(node, "is a name" if _is_name(node) else "is no number")

    def _constant(self, node: ast.expr, value: float) -> Constant:
        if isinstance(value, bool):
            raise self._wrong(node, "is no number")
        try:
            return Constant(float(value))
        except OverflowError:
            raise self._wrong(node, "is too large") from None

    def _name(self, node: ast.expr) -> str:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            raise self._wrong(node, "is no name in quotation marks")
        if any("\ud800" <= character <= "\udfff" for character in node.value):
            raise self._wrong(node, "is no name that text can hold")
        return node.value

    def _named(self, node: ast.Name) -> str:
        self.columns[node.id] = None
        return node.id

    def _wrong(self, node: ast.expr, why: str) -> UserError:
        # The grammar counts in bytes of UTF-8.
        place = len(self.text.encode()[: node.col_offset].decode()) + 1
        part = ast.get_source_segment(self.text, node) or ""
        shown = part if len(part) <= 60 else f"{part[:57]}..."
        return self._refused(f"has {shown!r} at character {place}, which {why}")

    def _refused(self, why: str) -> UserError:
        shown = self.text if len(self.text) <= 200 else f"{self.text[:197]}..."
        return UserError(
            f"data.filter={shown!r} {why}; write comparisons of columns with numbers or quoted "
            "names, joined by and, or, not, such as snr_db > 20 and language in ['en', 'zh']"
        )


def _arithmetic(sign: str, left: Number, right: Number) -> Number:
    """Of constants at once, so that they stay Python's floats, which take any precision."""
    if not isinstance(left, Constant) or not isinstance(right, Constant):
        return Arithmetic(sign, left, right)
    with np.errstate(all="ignore"):
        return Constant(float(ARITHMETIC[sign](left.value, right.value)))


def _is_name(node: ast.expr) -> bool:
    if isinstance(node, ast.Name):
        return node.id in NAME_COLUMNS
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
