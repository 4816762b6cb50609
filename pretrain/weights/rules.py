"""What users allow to differ between the weights they bring and the model, and what it matches."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field

from pretrain.models import parts
from pretrain.models.parts import Components
from shards.errors import UserError
from shards.section import Section


class AllowConfig(Section):
    """``allow``: where imported weights may differ from the model. By default nowhere.

    A pattern is the name of a component, or of parameters with ``*`` and ``?`` (all of the name).
    """

    missing: tuple[str, ...] = Field(
        default=(),
        description="keep the model's own initial values where the weights have none that fit",
    )
    unexpected: tuple[str, ...] = Field(
        default=(), description="leave out what the model has no parameter for"
    )
    reshape: dict[str, Literal["mean", "zeros"]] = Field(
        default={},
        description="a larger parameter keeps the old rows; new ones are the old ones' mean plus "
        "noise as wide as they spread, or zeros",
    )
    depth: dict[str, Literal["copy_last", "zero"]] = Field(
        default={},
        description="layers beyond those of the weights are copies of the last one; zero: and "
        "their output projections are zero",
    )


def covered(pattern: str, key: str, names: Iterable[str], components: Components) -> frozenset[str]:
    """The names that a pattern covers; UserError naming ``key`` where there is none."""
    known = list(names)
    found = parts.covered(pattern, known, components)
    if not found:
        raise UserError(
            f"{key}: {pattern!r} matches nothing; {_nearest(pattern, known, components)}"
        )
    return frozenset(found)


def covered_by(
    patterns: Mapping[str, str], key: str, names: Iterable[str], components: Components
) -> dict[str, str]:
    """What the patterns say of each name that they cover; the last one that covers it counts."""
    known = list(names)
    return {
        name: said
        for pattern, said in patterns.items()
        for name in covered(pattern, key, known, components)
    }


def renamed(names: Iterable[str], rename: Mapping[str, str]) -> dict[str, str]:
    """New name -> name, after every rule has been applied to the names that the one before left.

    A rule replaces each place in a name where its regular expression is found, as `re.sub` does;
    write ^ and $ for the whole name. UserError for one that is no regular expression, is found
    nowhere, or gives two tensors the same name.
    """
    new = {name: name for name in names}
    for expression, replacement in rename.items():
        changed = {_replaced(expression, replacement, name): name for name in new}
        if len(changed) < len(new):
            raise UserError(
                f"rename: {expression!r} gives two tensors the same name "
                f"({_doubled(expression, replacement, new)}); write an expression that tells them "
                "apart"
            )
        if all(re.search(expression, name) is None for name in new):
            raise UserError(
                f"rename: {expression!r} is found in no name; {_nearest(expression, new, {})}"
            )
        new = {after: new[before] for after, before in changed.items()}
    return new


def _replaced(expression: str, replacement: str, name: str) -> str:
    try:
        return re.sub(expression, replacement, name)
    except (re.error, IndexError) as error:
        raise UserError(
            f"rename: {expression!r}: {replacement!r} is no regular expression and replacement "
            f"({error}); write them as Python's re.sub takes them"
        ) from error


def _doubled(expression: str, replacement: str, names: Iterable[str]) -> str:
    seen: set[str] = set()
    for name in names:
        after = _replaced(expression, replacement, name)
        if after in seen:
            return after
        seen.add(after)
    return ""


def _nearest(pattern: str, names: Iterable[str], components: Components) -> str:
    close = parts.nearest(pattern, names, components)
    return f"the nearest names are {', '.join(close) or '(none)'}"
