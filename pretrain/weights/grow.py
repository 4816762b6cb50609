"""Parameters made larger."""

from __future__ import annotations

import torch
from torch import Tensor


def can_grow(old: torch.Size, new: torch.Size) -> bool:
    """Whether ``new`` holds ``old``: as many dimensions, none of them shorter."""
    return len(old) == len(new) and all(0 < a <= b for a, b in zip(old, new, strict=True))


def grown(
    old: Tensor, shape: torch.Size, how: str, generator: torch.Generator, *, last_row_last: bool
) -> Tensor:
    """``old`` (float32) extended to ``shape``, dimension by dimension, the first one last.

    ``how`` is "zeros", or "mean": the mean of the old rows plus Gaussian noise of the old rows'
    standard deviation, column by column (of the old columns, for a new column, and so on). With
    ``last_row_last`` the old last row becomes the new last one and has no part in the mean.
    """
    for axis in range(old.dim() - 1, 0, -1):
        old = _extended(old, axis, shape[axis], how, generator)
    if not last_row_last or old.shape[0] == shape[0]:
        return _extended(old, 0, shape[0], how, generator)
    return torch.cat([_extended(old[:-1], 0, shape[0] - 1, how, generator), old[-1:]])


def _extended(old: Tensor, axis: int, size: int, how: str, generator: torch.Generator) -> Tensor:
    missing = size - old.shape[axis]
    if missing == 0:
        return old
    shape = [*old.shape]
    shape[axis] = missing
    if how == "zeros" or old.shape[axis] == 0:
        return torch.cat([old, old.new_zeros(shape)], axis)
    spread = old.std(axis, keepdim=True, correction=0)
    noise = torch.randn(shape, generator=generator)
    return torch.cat([old, old.mean(axis, keepdim=True) + spread * noise], axis)
