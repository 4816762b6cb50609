"""What CUDA's kernels keep for the backward pass, where those of a CPU keep other things."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

ALIGNED = 16
"""CUDA's attention pads masks to a multiple of so many keys."""


class CudaKernels(TorchFunctionMode):
    """Attention and dropout as CUDA runs them, on tensors that hold nothing.

    Attention keeps queries, keys, values, the mask as numbers, outputs and a number for each row,
    not the weights of every pair; dropout a byte for each number.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return attention(*args, **given)
        if func is F.dropout:
            return dropout(*args, **given)
        return func(*args, **given)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`F.scaled_dot_product_attention` by the flash kernel, or the efficient one with a mask."""
    kernels: Any = torch.ops.aten
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    if attn_mask is None and query.dtype != torch.float32:
        found = kernels._scaled_dot_product_flash_attention(
            query, key, value, dropout_p, is_causal, False, scale=scale
        )
    else:
        bias = None if attn_mask is None else _bias(attn_mask, query, key)
        found = kernels._scaled_dot_product_efficient_attention(
            query, key, value, bias, True, dropout_p, is_causal, scale=scale
        )
    out: Tensor = found[0]
    return out


def _bias(mask: Tensor, query: Tensor, key: Tensor) -> Tensor:
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -torch.inf)
    keys = mask.shape[-1]
    if keys % ALIGNED:
        mask = F.pad(mask, (0, ALIGNED - keys % ALIGNED))[..., :keys]
    return mask.expand(*query.shape[:-1], key.shape[-2])


def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`F.dropout` with a mask of bytes."""
    if not training or p == 0:
        return x
    kernels: Any = torch.ops.aten
    out: Tensor = kernels.native_dropout(x, p, True)[0]
    return x.copy_(out) if inplace else out
