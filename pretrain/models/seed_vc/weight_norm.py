"""Layers whose weight is g * v / |v| (Salimans & Kingma 2016), with plain parameters.

Their names are those of checkpoints from ``torch.nn.utils.weight_norm``, whose hooks keep a model
from being copied.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Normed(nn.Module):
    def __init__(self, layer: nn.Linear | nn.Conv1d) -> None:
        super().__init__()
        weight = layer.weight.detach()
        assert layer.bias is not None
        self.bias = nn.Parameter(layer.bias.detach())
        self.weight_g = nn.Parameter(_norm(weight))
        self.weight_v = nn.Parameter(weight)

    def weight(self) -> Tensor:
        """The normed weight, in the parameters' dtype."""
        exact = self.weight_v.float()
        return (self.weight_g.float() * exact / _norm(exact)).to(self.weight_v.dtype)


class NormedLinear(_Normed):
    """``nn.Linear``: [..., inputs] to [..., outputs]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight(), self.bias)


class NormedConv1d(_Normed):
    """``nn.Conv1d`` without padding: [B, inputs, T] to [B, outputs, T - (kernel - 1) dilation]."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1) -> None:
        super().__init__(nn.Conv1d(inputs, outputs, kernel))
        self.dilation = dilation

    def forward(self, x: Tensor) -> Tensor:
        return F.conv1d(x, self.weight(), self.bias, dilation=self.dilation)


def _norm(weight: Tensor) -> Tensor:
    dims = tuple(range(1, weight.ndim))
    norm: Tensor = torch.linalg.vector_norm(weight, dim=dims, keepdim=True)
    return norm
