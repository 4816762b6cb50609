"""What turns the transformer's frames into a velocity, and the embedding of time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.models.seed_vc.flops import TIME_CHANNELS
from pretrain.models.seed_vc.weight_norm import NormedLinear


class TimeEmbedding(nn.Module):
    """Time in 0..1, [B], to [B, dim]: cosines and sines of 1000 t, then an MLP."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIME_CHANNELS, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, time: Tensor) -> Tensor:
        angles = 1000 * time.float()[:, None] * time_frequencies(time.device)
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
        dtype = next(self.mlp.parameters()).dtype
        out: Tensor = self.mlp(waves.to(dtype))
        return out


def time_frequencies(device: torch.device) -> Tensor:
    """10000^(-i / 128), float32 [128]."""
    half = TIME_CHANNELS // 2
    place = torch.arange(half, dtype=torch.float32, device=device)
    return torch.exp(-math.log(10000) * place / half)


class FinalLayer(nn.Module):
    """A layer norm that a condition shifts and scales, then a linear layer (Peebles & Xie 2023)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = NormedLinear(dim, dim)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``x`` [B, T, dim], ``condition`` [B, dim]."""
        shift, scale = self.adaLN_modulation(condition)[:, None].chunk(2, dim=-1)
        normed = F.layer_norm(x, x.shape[-1:], eps=1e-6)
        out: Tensor = self.linear(normed * (1 + scale) + shift)
        return out
