"""AdamW without ZeRO: every rank holds all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class PlainAdamW(torch.optim.AdamW):
    """AdamW that clips, and that moves nothing where a gradient is not finite.

    What DeepSpeed's ZeRO optimizers do themselves; ``overflow`` and ``_global_grad_norm`` are the
    names under which its engine asks for it.
    """

    def __init__(self, parameters: Iterable[dict[str, Any]], clip: float, **options: Any) -> None:
        super().__init__(parameters, **options)
        self._clip = clip
        self.overflow = False
        self._global_grad_norm = 0.0

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Clip to the global norm, then update."""
        gradients = self._gradients()
        norm = torch.nn.utils.get_total_norm(gradients)
        self._global_grad_norm = float(norm)
        self.overflow = not bool(norm.isfinite())
        if self.overflow:
            return None
        if self._clip:
            for gradient in gradients:
                gradient.mul_(min(1.0, self._clip / (self._global_grad_norm + 1e-6)))
        loss: float | None = super().step(closure)
        return loss

    def _gradients(self) -> list[Tensor]:
        parameters = (p for group in self.param_groups for p in group["params"])
        return [parameter.grad for parameter in parameters if parameter.grad is not None]
