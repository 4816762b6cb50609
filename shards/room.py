"""Room for arrays, where the rank can have them without another copy."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.utils.data import get_worker_info

COPIED_BYTES = 1 << 20
"""Arrays up to this size are copied between processes: a shared one costs a file descriptor."""


def room(shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    """A tensor to be filled; a large one of a loader worker lies in memory that the rank shares."""
    empty = torch.from_numpy(np.empty(0, dtype=dtype))
    size = math.prod(shape) * empty.itemsize
    if get_worker_info() is None or size <= COPIED_BYTES:
        return empty.new_empty(shape)
    shared = torch.UntypedStorage._new_shared(size)  # type: ignore[no-untyped-call]
    return empty.new_empty(0).set_(shared).resize_(shape)
