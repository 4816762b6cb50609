"""WaveNet (van den Oord et al. 2016): gated dilated convolutions with residuals and skips."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.models.seed_vc.config import WaveNetConfig
from pretrain.models.seed_vc.weight_norm import NormedConv1d


class ReflectConv1d(nn.Module):
    """A convolution [B, inputs, T] to [B, outputs, T] that reflects a clip at its ends."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        # Two levels, as the names in upstream's checkpoints have.
        self.conv = nn.ModuleDict({"conv": NormedConv1d(inputs, outputs, kernel, dilation)})
        self.margin = (kernel - 1) * dilation // 2

    def forward(self, x: Tensor, spans: Tensor) -> Tensor:
        """``spans`` int64 [B]: the frames of ``x`` that each clip takes."""
        out: Tensor = self.conv["conv"](reflected(x, spans, self.margin) if self.margin else x)
        return out


def reflected(x: Tensor, spans: Tensor, margin: int) -> Tensor:
    """``x`` [B, C, T] to [B, C, T + 2 margin], reflected at frame 0 and at each clip's last one."""
    step = torch.arange(margin, device=x.device)
    last = (spans[:, None] - 1).clamp(min=0)
    mirror = (last - 1 - step).clamp(min=0)
    start = torch.minimum(margin - step, last)
    head, tail = (
        x.gather(2, index[:, None].expand(-1, x.shape[1], -1)) for index in (start, mirror)
    )
    place = (margin + spans[:, None] + step)[:, None].expand(-1, x.shape[1], -1)
    return F.pad(torch.cat([head, x], dim=2), (0, margin)).scatter(2, place, tail)


class WaveNet(nn.Module):
    """The stack; its condition is one vector per clip."""

    def __init__(self, dim: int, config: WaveNetConfig) -> None:
        super().__init__()
        self.dim, self.dropout = dim, config.dropout
        count, kernel, rate = config.layers, config.kernel_size, config.dilation_rate
        self.in_layers = nn.ModuleList(
            ReflectConv1d(dim, 2 * dim, kernel, rate**layer) for layer in range(count)
        )
        self.res_skip_layers = nn.ModuleList(
            ReflectConv1d(dim, dim if layer == count - 1 else 2 * dim) for layer in range(count)
        )
        self.cond_layer = ReflectConv1d(dim, 2 * dim * count)

    def forward(self, x: Tensor, real: Tensor, spans: Tensor, condition: Tensor) -> Tensor:
        """``x`` [B, dim, T], ``real`` bool [B, 1, T], ``spans`` [B], ``condition`` [B, dim]."""
        shifts = self.cond_layer(condition[:, :, None], spans).chunk(len(self.in_layers), dim=1)
        total = torch.zeros_like(x)
        for layer, (enter, leave) in enumerate(
            zip(self.in_layers, self.res_skip_layers, strict=True)
        ):
            gated = leave(self._gate(enter(x, spans) + shifts[layer]), spans)
            if gated.shape[1] > self.dim:
                residual, gated = gated.chunk(2, dim=1)
                x = (x + residual) * real
            total = total + gated
        return total * real

    def _gate(self, x: Tensor) -> Tensor:
        signal, gate = x.chunk(2, dim=1)
        return F.dropout(signal.tanh() * gate.sigmoid(), self.dropout, self.training)
