"""Pictures of how speech follows text: the attention of semantic tokens on phonemes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.models.gpt_sovits_s1.layers import Decoder, SelfAttention
from pretrain.models.picture import coloured, enlarged
from pretrain.models.protocol import Preview
from shards.collate import Batch

SCALE = 4
"""Pixels in each direction for a token and a phoneme."""


@contextmanager
def watched(decoder: Decoder) -> Iterator[list[Tensor]]:
    """The attention weights [B, T, T] of each layer, in order, once ``decoder`` has been run."""
    seen: list[Tensor] = []

    def note(attention: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(attention, SelfAttention)
        seen.append(attention.weights(*inputs))

    # Just before its own forward a module has its weights under ZeRO-3 too.
    handles = [
        part.register_forward_pre_hook(note)
        for part in decoder.modules()
        if isinstance(part, SelfAttention)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def alignments(batch: Batch, weights: Sequence[Tensor]) -> list[Preview]:
    """A picture of each clip from every layer's weights [B, P + S, P + S], first phoneme lowest.

    Each column is a semantic token; of what it looks at, only the phonemes count.
    """
    longest = batch.arrays["phonemes"].shape[1]
    looks = torch.stack([one[:, longest:, :longest] for one in weights]).mean(0)
    sizes = zip(batch.lengths["phonemes"].tolist(), batch.lengths["semantic"].tolist(), strict=True)
    return [
        Preview(key, {"alignment": _picture(one[:tokens, :phonemes])})
        for key, one, (phonemes, tokens) in zip(batch.keys, looks, sizes, strict=True)
    ]


def _picture(looks: Tensor) -> Tensor:
    shares = looks / looks.sum(1, keepdim=True)
    return enlarged(coloured(shares.T.flip(0), 0.0, float(shares.max())), SCALE)
