"""A model without its numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pretrain.models.parts import Components, component_of
from pretrain.models.protocol import Family


@dataclass(frozen=True)
class Outline:
    """Shapes of all parameters by name, in the model's order, and the prefixes of each component's.

    A parameter need not belong to any component. No loss reaches those that are ``unused``.
    """

    shapes: Mapping[str, tuple[int, ...]]
    components: Components
    unused: frozenset[str] = frozenset()

    def sizes(self) -> dict[str, int]:
        """How many numbers each parameter has."""
        return {name: math.prod(shape) for name, shape in self.shapes.items()}

    def component_of(self, name: str) -> str | None:
        """The component that a parameter belongs to."""
        return component_of(name, self.components)


def outline_of(model: nn.Module, components: Components, unused: Iterable[str] = ()) -> Outline:
    """The outline of a model that has been built."""
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    return Outline(shapes, components, frozenset(unused))


def outline(family: Family) -> Outline:
    """The outline of the model that ``family`` builds; no memory is taken for its weights."""
    with torch.device("meta"):
        model: Any = family.build()
    return outline_of(model, model.components(), model.unused())
