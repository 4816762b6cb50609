"""Parameters put together from ZeRO's pieces, cut as its layout says."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pretrain.weights.zero_merge import cut_by_group, cut_by_parameter

Named = dict[str, Tensor]
SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def parameters(sizes: list[int]) -> Named:
    return {f"p{number}": torch.randn(size, 2) for number, size in enumerate(sizes)}


def padded(flat: Tensor, multiple: int) -> Tensor:
    return torch.cat([flat, flat.new_full((-len(flat) % multiple,), torch.nan)])


@given(st.lists(SIZES, min_size=1, max_size=3), st.integers(1, 4), st.booleans())
def test_groups_end_to_end_in_equal_pieces(
    groups: list[list[int]], ranks: int, aligned: bool
) -> None:
    named = [{f"g{g}.{n}": t for n, t in parameters(s).items()} for g, s in enumerate(groups)]
    paddings = [[-2 * size % 4 if aligned else 0 for size in sizes] for sizes in groups]
    flats = [
        padded(
            torch.cat([padded(t.flatten(), 4 if aligned else 1) for t in group.values()]), 2 * ranks
        )
        for group in named
    ]
    vectors = [[flat.chunk(ranks)[rank] for flat in flats] for rank in range(ranks)]
    shapes = [{name: tensor.shape for name, tensor in group.items()} for group in named]
    cuts = dict(cut_by_group(shapes, vectors, paddings if aligned else None))
    expected = {name: tensor for group in named for name, tensor in group.items()}
    assert list(cuts) == list(expected)
    assert all(torch.equal(cuts[name].whole(), tensor) for name, tensor in expected.items())


@given(SIZES, st.integers(1, 4), st.integers(1, 20))
def test_each_parameter_in_equal_pieces(sizes: list[int], ranks: int, held_apart: int) -> None:
    """A rank's pieces may be kept in several vectors, which cut them anywhere."""
    named = parameters(sizes)
    pieces = [padded(tensor.flatten(), ranks).chunk(ranks) for tensor in named.values()]
    vectors = [torch.cat([own[rank] for own in pieces]).split(held_apart) for rank in range(ranks)]
    shapes = [{name: tensor.shape for name, tensor in named.items()}]
    cuts = dict(cut_by_parameter(shapes, vectors))
    assert all(torch.equal(cuts[name].whole(), tensor) for name, tensor in named.items())
