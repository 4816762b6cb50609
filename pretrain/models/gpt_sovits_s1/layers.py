"""The blocks of s1: post-norm transformer layers and sinusoidal positions, upstream's names."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TokenEmbedding(nn.Module):
    """Ids [B, T] to vectors [B, T, D]."""

    def __init__(self, vocabulary: int, dim: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, dim)

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.word_embeddings(ids)
        return out


class SinePosition(nn.Module):
    """Adds alpha times sinusoidal positions (Vaswani et al. 2017, 3.5) to [B, T, D]."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1))
        self.dim, self.dropout = dim, dropout

    def forward(self, x: Tensor) -> Tensor:
        table = positions(x.shape[1], self.dim, x.device).to(x.dtype)
        return F.dropout(x + self.alpha * table, self.dropout, self.training)


def positions(length: int, dim: int, device: torch.device) -> Tensor:
    """Sinusoids [length, dim]: sin on even channels, cos on odd ones, wavelengths to 10000."""
    time = torch.arange(length, dtype=torch.float32, device=device)[:, None]
    even = torch.arange(0, dim, 2, dtype=torch.float32, device=device)
    angles = time * torch.exp(even * (-math.log(10000.0) / dim))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class SelfAttention(nn.Module):
    """Multi-head attention with packed projections; one boolean mask serves all heads."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        self.heads, self.dropout = heads, dropout
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        """``x`` [B, T, D], ``allowed`` bool [B, 1, T, T]: True where a query may look."""
        batch, length, dim = x.shape
        query, key, value = self._projected(x)
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=allowed, dropout_p=self.dropout if self.training else 0.0
        )
        out: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(batch, length, dim))
        return out

    def weights(self, x: Tensor, allowed: Tensor) -> Tensor:
        """How much each place looks at each, the mean of all heads, float32 [B, T, T]."""
        query, key, _ = (part.float() for part in self._projected(x))
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        return scores.masked_fill(~allowed, -torch.inf).softmax(3).mean(1)

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, [B, heads, T, D / heads] each."""
        batch, length, dim = x.shape
        packed = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        split = packed.view(batch, length, 3, self.heads, dim // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        return query, key, value


class Layer(nn.Module):
    """A post-norm layer: x = norm1(x + attention(x)); x = norm2(x + relu feed-forward(x))."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = SelfAttention(dim, heads, dropout)
        self.linear1 = nn.Linear(dim, 4 * dim)
        self.linear2 = nn.Linear(4 * dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = dropout

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        x = self.norm1(x + self._drop(self.self_attn(x, allowed)))
        hidden = self._drop(F.relu(self.linear1(x)))
        out: Tensor = self.norm2(x + self._drop(self.linear2(hidden)))
        return out

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class Decoder(nn.Module):
    """The stack of layers; no final norm, as upstream."""

    def __init__(self, dim: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(dim, heads, dropout) for _ in range(layers))

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, allowed)
        return x
