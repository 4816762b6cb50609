"""A rank's share of a parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

EXCHANGED = 1 << 24
"""Numbers that change places at a time."""


@dataclass(frozen=True)
class Fragment:
    """A contiguous run of one parameter that this rank owns.

    ``start`` counts from the beginning of the flattened parameter. ``states`` are views of the
    engine's own memory, all of one length: ``master`` and, if the parameter trains, both moments.
    """

    name: str
    start: int
    states: Mapping[str, Tensor]

    @property
    def size(self) -> int:
        """Numbers in the fragment."""
        return self.states["master"].numel()


def share(fragment: Fragment, rank: int, world_size: int) -> Fragment:
    """The even share of ``fragment`` that falls to ``rank`` where every rank holds all of it."""
    first, last = (fragment.size * n // world_size for n in (rank, rank + 1))
    states = {key: state[first:last] for key, state in fragment.states.items()}
    return Fragment(fragment.name, fragment.start + first, states)


def exchange(one: Tensor, other: Tensor) -> None:
    """Let two tensors of one shape change values, with little memory beside them."""
    pieces = (torch.split(each.view(-1), EXCHANGED) for each in (one, other))
    for here, there in zip(*pieces, strict=True):
        kept = here.clone()
        here.copy_(there)
        there.copy_(kept)
