"""The optimizer's options and which parameters it treats alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from shards.section import Section

Momentum = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(Section):
    """``optimizer``: AdamW (Loshchilov & Hutter 2019) and gradient clipping."""

    lr: float = Field(default=3e-4, gt=0, description="peak learning rate")
    betas: tuple[Momentum, Momentum] = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.01, ge=0, description="not for norms and biases")
    ema_decay: float = Field(
        default=0.0, ge=0, lt=1, description="of an average of the weights beside them; 0: none"
    )
    clip: float = Field(default=1.0, ge=0, description="largest global gradient norm; 0: no limit")


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning-rate factor and a weight decay."""

    name: str
    parameters: tuple[str, ...]
    lr_scale: float
    weight_decay: float


@dataclass(frozen=True)
class Part:
    """How parameters that train alike are set; ``weight_decay`` None: as the optimizer's."""

    name: str = ""
    lr_scale: float = 1.0
    weight_decay: float | None = None


def parameter_groups(
    dimensions: Iterable[tuple[str, int]], optimizer: OptimizerConfig, part: Part = Part()
) -> tuple[Group, ...]:
    """Groups of the parameters given as (name, number of dimensions); no empty group.

    Matrices decay; norms, biases and scalars (at most one dimension) never do.
    """
    known = list(dimensions)
    decayed = tuple(name for name, ndim in known if ndim > 1)
    kept = tuple(name for name, ndim in known if ndim <= 1)
    prefix = f"{part.name}/" if part.name else ""
    decay = optimizer.weight_decay if part.weight_decay is None else part.weight_decay
    groups = (
        Group(f"{prefix}decay", decayed, part.lr_scale, decay),
        Group(f"{prefix}no_decay", kept, part.lr_scale, 0.0),
    )
    return tuple(group for group in groups if group.parameters)
