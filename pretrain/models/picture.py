"""Tables of numbers as pictures."""

from __future__ import annotations

import torch
from torch import Tensor

# Nine of the colours of matplotlib's viridis (CC0), evenly from its lowest to its highest.
VIRIDIS = (
    (68, 1, 84),
    (71, 45, 123),
    (59, 82, 139),
    (44, 114, 142),
    (33, 145, 140),
    (40, 174, 128),
    (94, 201, 98),
    (173, 220, 48),
    (253, 231, 37),
)


def coloured(values: Tensor, low: float, high: float) -> Tensor:
    """``values`` [height, width] as colours, uint8 [height, width, 3] on the CPU.

    ``low`` and less are darkest, ``high`` and more brightest; what is no number is dark too.
    """
    share = (values.detach().float().cpu() - low) / max(high - low, 1e-9)
    place = share.nan_to_num(0.0).clamp(0, 1) * (len(VIRIDIS) - 1)
    colours = torch.tensor(VIRIDIS, dtype=torch.float32)
    below = place.floor().long().clamp(max=len(VIRIDIS) - 2)
    mixed = torch.lerp(colours[below], colours[below + 1], (place - below)[:, :, None])
    return mixed.round().to(torch.uint8)


def enlarged(picture: Tensor, scale: int) -> Tensor:
    """A picture [height, width, 3] with ``scale`` pixels for one in each direction."""
    return picture.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
