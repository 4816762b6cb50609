"""Whole parameters out of the flat pieces in which ZeRO keeps them.

In stages 1 and 2 a group's parameters lie end to end in one flat vector, which is cut into equal
pieces, one a rank. In stage 3 each parameter is cut into equal pieces, and a rank's pieces of all
parameters lie end to end; its vector may be kept in several.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Shapes = Mapping[str, torch.Size]


@dataclass(frozen=True, eq=False)
class Slice:
    """Numbers ``start`` to ``start + count`` of vectors that lie end to end."""

    vectors: Sequence[Tensor]
    start: int
    count: int

    def pieces(self) -> Iterator[Tensor]:
        """Views of them; fewer numbers if the vectors end early."""
        begin = 0
        for vector in self.vectors:
            first = max(self.start - begin, 0)
            last = min(self.start + self.count - begin, vector.numel())
            if first < last:
                yield vector[first:last]
            begin += vector.numel()


@dataclass(frozen=True, eq=False)
class Cut:
    """A parameter of ``shape``, in slices; the last may end in padding."""

    slices: Sequence[Slice]
    shape: torch.Size

    def whole(self) -> Tensor:
        """The parameter, float32; ValueError if numbers are missing."""
        pieces = [piece for one in self.slices for piece in one.pieces()]
        return torch.cat(pieces)[: self.shape.numel()].float().view(self.shape)


def cut_by_group(
    groups: Sequence[Shapes],
    vectors: Sequence[Sequence[Tensor]],
    paddings: Sequence[Sequence[int]] | None,
) -> Iterator[tuple[str, Cut]]:
    """Stages 1 and 2: ``vectors`` [rank][group]; ``paddings`` follow each parameter of a group."""
    for number, shapes in enumerate(groups):
        flat, at = [own[number] for own in vectors], 0
        after = paddings[number] if paddings else [0] * len(shapes)
        for (name, shape), padding in zip(shapes.items(), after, strict=True):
            yield name, Cut([Slice(flat, at, shape.numel())], shape)
            at += shape.numel() + padding


def cut_by_parameter(
    groups: Sequence[Shapes], vectors: Sequence[Sequence[Tensor]]
) -> Iterator[tuple[str, Cut]]:
    """Stage 3: ``vectors`` [rank][any number]."""
    at = 0
    for name, shape in (pair for shapes in groups for pair in shapes.items()):
        each = math.ceil(shape.numel() / len(vectors))
        yield name, Cut([Slice(own, at, each) for own in vectors], shape)
        at += each
