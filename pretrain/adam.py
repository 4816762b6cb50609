"""AdamW as it is used with ZeRO and without."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.groups import Group, OptimizerConfig

Watch = Callable[[], Tensor | None]


def watched(adam: torch.optim.AdamW, watch: Watch | None) -> None:
    """Let ``adam``, which is fused, ask ``watch``, its gradients being in place, whether to move.

    Where the 0-dim float32 tensor that it answers is 1, weights, moments and count keep every bit.
    That is decided on the device (``found_inf`` is torch's name for it), so nothing waits.
    """
    told: Any = adam
    told.watch = watch


def ask(adam: Any, *_: Any) -> None:
    """What `watched` adds to each step; a hook, as DeepSpeed knows torch's own class alone."""
    watch: Watch | None = getattr(adam, "watch", None)
    adam.found_inf = watch() if watch else None


class PlainAdamW(torch.optim.AdamW):
    """AdamW without ZeRO, every rank holding all of it: it clips, and moves nothing where a
    gradient is not finite, for which the host does not wait.

    What DeepSpeed's ZeRO optimizers do themselves; ``overflow``, which is left to ``found_inf``,
    and ``_global_grad_norm`` are the names under which its engine asks for it.
    """

    def __init__(self, parameters: Iterable[dict[str, Any]], clip: float, **options: Any) -> None:
        super().__init__(parameters, **options)
        self._clip = clip
        self.overflow = False
        self._global_grad_norm = torch.zeros(())

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Clip to the global norm, then update."""
        gradients = self._gradients()
        norm = torch.nn.utils.get_total_norm(gradients)
        self._global_grad_norm = norm
        if self._clip:
            torch._foreach_mul_(gradients, (self._clip / (norm + 1e-6)).clamp(max=1.0))
        ask(self)
        broken = (~norm.isfinite()).float()
        told: Any = self
        told.found_inf = broken if told.found_inf is None else broken.maximum(told.found_inf)
        loss: float | None = super().step(closure)
        return loss

    def _gradients(self) -> list[Tensor]:
        parameters = (p for group in self.param_groups for p in group["params"])
        return [parameter.grad for parameter in parameters if parameter.grad is not None]


def adamw(
    model: nn.Module, groups: Sequence[Group], config: OptimizerConfig, *, plain: bool
) -> torch.optim.AdamW:
    """An optimizer of ``groups`` of the model: ``plain`` where there is no ZeRO."""
    named = dict(model.named_parameters())
    parts = [
        {"params": [named[name] for name in group.parameters], "weight_decay": group.weight_decay}
        for group in groups
    ]
    options: Any = {"lr": config.lr, "betas": config.betas, "eps": config.eps, "fused": True}
    if plain:
        return PlainAdamW(parts, config.clip, **options)
    adam = torch.optim.AdamW(parts, **options)
    adam.register_step_pre_hook(ask)
    return adam
