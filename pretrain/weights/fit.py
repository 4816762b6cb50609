"""Imported weights fitted to a model: renamed, made larger, and nothing left unsaid."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

import torch
from torch import Tensor

from pretrain.models.growth import Growth
from pretrain.models.parts import Components, component_of
from pretrain.weights.grow import can_grow, grown
from pretrain.weights.rules import AllowConfig, covered, covered_by, renamed
from shards.errors import UserError

Status = Literal["loaded", "renamed", "reshaped", "grown", "misshaped", "missing", "unexpected"]
STATUSES: tuple[Status, ...] = get_args(Status)
_MOST_NAMED = 3
_REMEDIES: dict[Status, str] = {
    "misshaped": "write allow.reshape={PATTERN: mean} for what is larger in the model, or "
    "allow.missing=[PATTERN] to keep the model's own values",
    "missing": "write allow.missing=[PATTERN] to keep the model's own values, "
    "allow.depth={PATTERN: copy_last} for more layers, or rename",
    "unexpected": "write allow.unexpected=[PATTERN] to leave them out, or rename",
}


@dataclass(frozen=True)
class Row:
    """What became of one parameter of the model, or of a tensor that it has none for.

    ``numbers`` counts the model's numbers, or the tensor's; ``detail`` says where they come from;
    ``allowed`` is False where nobody said that this may be.
    """

    name: str
    component: str
    status: Status
    numbers: int
    detail: str = ""
    allowed: bool = True


@dataclass(frozen=True)
class Fit:
    """Float32 values for every parameter of the model, and how each came by them."""

    tensors: dict[str, Tensor]
    rows: tuple[Row, ...]

    @property
    def complaint(self) -> str:
        """What does not fit and was not allowed, and what to write; "" if all does."""
        said = [_complaint(status, self.rows) for status in _REMEDIES]
        return "; ".join(text for text in said if text)


@dataclass(frozen=True)
class _Rules:
    """The user's patterns, as the names that they cover."""

    missing: frozenset[str]
    unexpected: frozenset[str]
    reshape: Mapping[str, str]
    depth: Mapping[str, str]


def fit(
    found: Mapping[str, Tensor],
    fresh: Mapping[str, Tensor],
    components: Components,
    growth: Growth,
    allow: AllowConfig,
    rename: Mapping[str, str],
    seed: int,
) -> Fit:
    """``found`` fitted to the freshly initialised ``fresh``; both are name -> tensor.

    UserError counts what is misshaped, missing or unexpected and not allowed, and says what to
    write; and so for patterns that match nothing. New values depend on ``seed`` and the parameter's
    name alone.
    """
    fitted = compare(found, fresh, components, growth, allow, rename, seed)
    if fitted.complaint:
        raise UserError(f"the weights do not fit the model: {fitted.complaint}")
    return fitted


def compare(
    found: Mapping[str, Tensor],
    fresh: Mapping[str, Tensor],
    components: Components,
    growth: Growth,
    allow: AllowConfig,
    rename: Mapping[str, str],
    seed: int,
) -> Fit:
    """As `fit`, but what was not allowed is in the rows and not an error."""
    names = renamed(found, rename)
    rules = _rules(allow, names, fresh, components)
    fitting = _Fitting(found, names, components, growth, rules, seed)
    settled = [fitting.settle(name, own) for name, own in fresh.items()]
    rows = [row for row, _ in settled] + list(fitting.unexpected(fresh))
    return Fit({row.name: tensor for row, tensor in settled}, tuple(rows))


def _rules(
    allow: AllowConfig,
    names: Mapping[str, str],
    fresh: Mapping[str, Tensor],
    components: Components,
) -> _Rules:
    missing = [covered(one, "allow.missing", fresh, components) for one in allow.missing]
    unexpected = [covered(one, "allow.unexpected", names, components) for one in allow.unexpected]
    return _Rules(
        frozenset().union(*missing),
        frozenset().union(*unexpected),
        covered_by(allow.reshape, "allow.reshape", fresh, components),
        covered_by(allow.depth, "allow.depth", fresh, components),
    )


@dataclass(frozen=True, eq=False)
class _Fitting:
    """Of one set of weights: ``names`` are those after renaming -> those in ``found``."""

    found: Mapping[str, Tensor]
    names: Mapping[str, str]
    components: Components
    growth: Growth
    rules: _Rules
    seed: int

    def settle(self, name: str, own: Tensor) -> tuple[Row, Tensor]:
        """What the parameter ``name`` gets; ``own`` is its initial value."""
        source = self._source(name)
        if source is None:
            return self._row(name, "missing", own, allowed=name in self.rules.missing), own
        values = self.found[self.names[source]]
        before = list(values.shape)
        fitted = self._shaped(name, values, own)
        if fitted is None:
            detail = f"{before} there and {list(own.shape)} here"
            allowed = name in self.rules.missing
            return self._row(name, "misshaped", own, detail, allowed=allowed), own
        if source != name:
            fitted = self._added_block(name, fitted)
            return self._row(name, "grown", own, f"from {source}"), fitted
        if before != list(own.shape):
            return self._row(name, "reshaped", own, f"from {before}"), fitted
        if self.names[name] != name:
            return self._row(name, "renamed", own, f"from {self.names[name]}"), fitted
        return self._row(name, "loaded", own), fitted

    def unexpected(self, fresh: Mapping[str, Tensor]) -> Iterator[Row]:
        """The tensors for which the model has no parameter."""
        for name, before in self.names.items():
            if name not in fresh:
                values = self.found[before]
                detail = "" if name == before else f"from {before}"
                allowed = name in self.rules.unexpected
                yield self._row(name, "unexpected", values, detail, allowed=allowed)

    def _source(self, name: str) -> str | None:
        """The name of the tensor that fills a parameter: its own, or one of the last block."""
        if name in self.names:
            return name
        if name not in self.rules.depth:
            return None
        for prefix in self.growth.blocks:
            rest = _in_block(prefix, name)
            last = max((int(_number(prefix, one)) for one in self._blocks(prefix)), default=None)
            if rest and last is not None and int(_number(prefix, name)) > last:
                source = f"{prefix}{last}.{rest}"
                return source if source in self.names else None
        return None

    def _blocks(self, prefix: str) -> Iterator[str]:
        return (name for name in self.names if _in_block(prefix, name))

    def _shaped(self, name: str, values: Tensor, own: Tensor) -> Tensor | None:
        """``values`` in the parameter's dtype and shape, or None if they cannot have it."""
        values = values.to(own.dtype)
        if values.shape == own.shape:
            return values
        packed = any(fnmatchcase(name, pattern) for pattern in self.growth.packed)
        if name not in self.rules.reshape or packed or not can_grow(values.shape, own.shape):
            return None
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed}/{name}".encode()))
        last = name in self.growth.last_row_last
        how = self.rules.reshape[name]
        return grown(values, own.shape, how, generator, last_row_last=last)

    def _added_block(self, name: str, values: Tensor) -> Tensor:
        inside = [_in_block(prefix, name) for prefix in self.growth.blocks]
        is_output = any(
            fnmatchcase(rest, pattern) for rest in inside for pattern in self.growth.block_outputs
        )
        if self.rules.depth[name] == "zero" and is_output:
            return torch.zeros_like(values)
        return values.clone()

    def _row(
        self, name: str, status: Status, of: Tensor, detail: str = "", *, allowed: bool = True
    ) -> Row:
        component = component_of(name, self.components) or ""
        return Row(name, component, status, of.numel(), detail, allowed)


def _in_block(prefix: str, name: str) -> str:
    """The part of a name behind its block's number; "" for what is in no block."""
    match = re.fullmatch(rf"{re.escape(prefix)}\d+\.(.+)", name)
    return match[1] if match else ""


def _number(prefix: str, name: str) -> str:
    return name.removeprefix(prefix).partition(".")[0]


def _complaint(status: Status, rows: tuple[Row, ...]) -> str:
    bad = [row for row in rows if row.status == status and not row.allowed]
    if not bad:
        return ""
    named = [f"{row.name} {row.detail}".strip() for row in bad[:_MOST_NAMED]]
    more = ", ..." if len(bad) > _MOST_NAMED else ""
    return f"{len(bad)} {status} ({', '.join(named)}{more}): {_REMEDIES[status]}"
