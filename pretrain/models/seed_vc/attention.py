"""The estimator's transformer: adaptive RMS norms, rotary positions, skips across its middle."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.models.seed_vc.flops import ffn_width

ROPE_BASE = 10000.0


class RMSNorm(nn.Module):
    """x / rms(x) * weight, in float32 (Zhang & Sennrich 2019)."""

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        exact = x.float()
        normed = exact * (exact.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return normed.to(x.dtype) * self.weight


class AdaptiveNorm(nn.Module):
    """w * RMSNorm(x) + b with w and b from a condition; without one, RMSNorm alone."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project_layer = nn.Linear(dim, 2 * dim)
        self.norm = RMSNorm(dim)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """``x`` [B, T, D], ``condition`` [B, D]."""
        normed: Tensor = self.norm(x)
        if condition is None:
            return normed
        projected: Tensor = self.project_layer(condition)
        scale, shift = projected[:, None].chunk(2, dim=-1)
        return scale * normed + shift


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions (Su et al. 2021) and packed projections."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.wqkv = nn.Linear(dim, 3 * dim, bias=False)
        self.wo = nn.Linear(dim, dim, bias=False)
        self.heads = heads

    def forward(self, x: Tensor, angles: Tensor, allowed: Tensor) -> Tensor:
        """``angles`` [T, D / heads / 2]; ``allowed`` bool [B, 1, 1, T]: keys that count."""
        batch, length, dim = x.shape
        packed = self.wqkv(x).view(batch, length, 3, self.heads, dim // self.heads)
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            rotated(query, angles).to(value.dtype),
            rotated(key, angles).to(value.dtype),
            value,
            attn_mask=allowed,
        )
        out: Tensor = self.wo(mixed.transpose(1, 2).reshape(batch, length, dim))
        return out


def rotary_angles(length: int, head_dim: int, device: torch.device) -> Tensor:
    """Position times base^(-2i / head_dim), float32 [length, head_dim / 2]."""
    even = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device)
    place = torch.arange(length, dtype=torch.float32, device=device)
    return torch.outer(place, ROPE_BASE ** (-even / head_dim))


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Neighbouring pairs of ``x`` [..., T, D] turned by ``angles`` [T, D / 2], in float32."""
    first, second = x.float().reshape(*x.shape[:-1], -1, 2).unbind(-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([first * cos - second * sin, second * cos + first * sin], -1).flatten(-2)


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020); inside two thirds of 4 D, rounded up."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        inner = ffn_width(dim)
        self.w1 = nn.Linear(dim, inner, bias=False)
        self.w3 = nn.Linear(dim, inner, bias=False)
        self.w2 = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.w2(F.silu(self.w1(x)) * self.w3(x))
        return out


class Block(nn.Module):
    """A pre-norm layer that may first merge what an early layer left."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(dim, heads)
        self.feed_forward = FeedForward(dim)
        self.ffn_norm = AdaptiveNorm(dim)
        self.attention_norm = AdaptiveNorm(dim)
        self.skip_in_linear = nn.Linear(2 * dim, dim)

    def forward(
        self,
        x: Tensor,
        condition: Tensor | None,
        skipped: Tensor | None,
        angles: Tensor,
        allowed: Tensor,
    ) -> Tensor:
        if skipped is not None:
            x = self.skip_in_linear(torch.cat([x, skipped], dim=-1))
        x = x + self.attention(self.attention_norm(x, condition), angles, allowed)
        out: Tensor = x + self.feed_forward(self.ffn_norm(x, condition))
        return out


class Transformer(nn.Module):
    """The blocks; with ``skips`` those before the middle feed those after it (Bao et al. 2023)."""

    def __init__(
        self, dim: int, heads: int, layers: int, *, skips: bool, conditioned: bool
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(dim, heads) for _ in range(layers))
        self.norm = AdaptiveNorm(dim)
        self.head_dim = dim // heads
        self.middle = layers // 2
        self.skips, self.conditioned = skips, conditioned

    def unused(self) -> tuple[str, ...]:
        """Parameters that never get a gradient."""
        return tuple(
            name
            for name, _ in self.named_parameters()
            if (name.startswith("layers.") and self._idle(int(name.split(".")[1]), name))
        )

    def forward(self, x: Tensor, condition: Tensor, allowed: Tensor) -> Tensor:
        """``x`` [B, T, D], ``condition`` [B, D], ``allowed`` bool [B, 1, 1, T]."""
        angles = rotary_angles(x.shape[1], self.head_dim, x.device)
        within = condition if self.conditioned else None
        kept: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            skipped = kept.pop() if self._merges(number) else None
            x = layer(x, within, skipped, angles, allowed)
            if self.skips and number < self.middle:
                kept.append(x)
        out: Tensor = self.norm(x, condition)
        return out

    def _merges(self, number: int) -> bool:
        # With an even number of layers one more is kept than is merged.
        return self.skips and number > self.middle

    def _idle(self, number: int, name: str) -> bool:
        if ".skip_in_linear." in name:
            return not self._merges(number)
        return ".project_layer." in name and not self.conditioned
