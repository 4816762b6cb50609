"""Content features at their own rate to conditions at the spectrogram's.

Upstream stretches a padded batch as one and norms over its padding, so that a clip's condition
depends on what it is batched with. Here every clip is stretched and normed over a span of its own;
with the batch's longest as all spans the result is upstream's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pretrain.models.seed_vc.flops import STAGES


class LengthRegulator(nn.Module):
    """Content, and F0 where ``f0_bins`` is not 0, to [B, T, channels].

    ``mask_token``, ``embedding`` and ``f0_mask`` are of checkpoints alone: they get no gradient.
    """

    def __init__(self, inputs: int, channels: int, codebook: int, f0_bins: int) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(1, channels))
        if f0_bins:
            self.f0_mask = nn.Parameter(torch.zeros(1, channels))
        layers: list[nn.Module] = []
        for _ in range(STAGES):
            conv = nn.Conv1d(channels, channels, 3, padding=1)
            layers += [conv, nn.GroupNorm(1, channels), nn.Mish()]
        self.model = nn.Sequential(*layers, nn.Conv1d(channels, channels, 1))
        self.embedding = nn.Embedding(codebook, channels)
        if f0_bins:
            self.f0_embedding = nn.Embedding(f0_bins, channels)
        self.content_in_proj = nn.Linear(inputs, channels)
        self.f0_bins = f0_bins

    def unused(self) -> tuple[str, ...]:
        """Parameters that never get a gradient."""
        return ("mask_token", "embedding.weight", *(("f0_mask",) if self.f0_bins else ()))

    def forward(
        self,
        content: Stretched,
        lengths: Tensor,
        spans: Tensor,
        frames: int,
        f0: Stretched | None = None,
    ) -> Tensor:
        """[B, frames, channels], 0 from each clip's ``lengths`` on.

        ``content`` holds values [B, inputs, S], ``f0`` Hz [B, F] (0: unvoiced); ``lengths`` and
        ``spans`` [B] are frames: those of a clip and those that it is stretched and normed over.
        """
        weight = self.content_in_proj.weight
        projected = self.content_in_proj(content.values.transpose(1, 2).to(weight.dtype))
        x = content.to_frames(projected, spans, frames)
        if f0 is not None:
            embedded = self.f0_embedding(coarse_f0(f0.values, self.f0_bins))
            x = x + f0.to_frames(embedded, spans, frames)
        x = self._convolve(x.transpose(1, 2), before(spans, frames)[:, None])
        return x.transpose(1, 2) * before(lengths, frames)[:, :, None]

    def _convolve(self, x: Tensor, spanned: Tensor) -> Tensor:
        for layer in self.model:
            x = (
                norm_within(x, spanned, layer)
                if isinstance(layer, nn.GroupNorm)
                else layer(x * spanned)
            )
        return x


class Stretched:
    """Values over time, [B, ..., S] or [B, S], of which each clip has ``lengths`` [B] (> 0)."""

    def __init__(self, values: Tensor, lengths: Tensor) -> None:
        self.values, self.lengths = values, lengths

    def to_frames(self, x: Tensor, spans: Tensor, frames: int) -> Tensor:
        """``x`` [B, S, C] to the nearest of each frame, [B, frames, C]."""
        place = torch.arange(frames, device=x.device, dtype=torch.float32)
        # In float32, where torch's own nearest interpolation rounds too.
        scale = self.lengths.float() / spans.float()
        nearest = (place * scale[:, None]).floor().long()
        nearest = torch.minimum(nearest, self.lengths[:, None] - 1).clamp(min=0)
        return x.gather(1, nearest[:, :, None].expand(-1, -1, x.shape[2]))


def norm_within(x: Tensor, spanned: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Group norm with one group of [B, C, T] over the frames ``spanned``, bool [B, 1, T]."""
    exact = x.float()
    count = (spanned.sum((1, 2), keepdim=True) * x.shape[1]).clamp(min=1)
    mean = (exact * spanned).sum((1, 2), keepdim=True) / count
    apart = (exact - mean) * spanned
    variance = apart.square().sum((1, 2), keepdim=True) / count
    normed = (apart * (variance + norm.eps).rsqrt()).to(norm.weight.dtype)
    return normed * norm.weight[:, None] + norm.bias[:, None]


def before(lengths: Tensor, frames: int) -> Tensor:
    """Which of ``frames`` lie before each of ``lengths`` [B], bool [B, frames]."""
    return torch.arange(frames, device=lengths.device)[None] < lengths[:, None]


def coarse_f0(f0: Tensor, bins: int) -> Tensor:
    """F0 in Hz to a bin 1..bins - 1 on the mel scale of 50 to 1100 Hz; unvoiced is 1."""
    low, high = (1127 * math.log1p(edge / 700) for edge in (50.0, 1100.0))
    mel = 1127 * (f0.float() / 700).log1p()
    place = (mel - low) * ((bins - 2) / (high - low)) + 1
    return place.round().long().clamp(1, bins - 1)
