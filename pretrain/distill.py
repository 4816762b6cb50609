"""Distillation: a frozen copy of the imported model that keeps what it knew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.models.protocol import Guide
from shards.section import Section

if TYPE_CHECKING:
    from shards.collate import Batch


class DistillConfig(Section):
    """``distill``: stay near the model that ``init_from`` brought."""

    model_config = ConfigDict(populate_by_name=True)

    teacher: Literal["init"] = Field(
        default="init", alias="from", description="the model to follow"
    )
    weight: float = Field(
        default=0.0, ge=0, description="of the divergence beside the loss; 0: no distillation"
    )
    temperature: float = Field(default=1.0, gt=0, description="softens both distributions")
    until_step: int | None = Field(default=None, ge=1, description="none from this step on")

    def is_on(self, step: int) -> bool:
        """Whether optimizer step ``step`` (counted from 0) is guided."""
        return self.weight > 0 and (self.until_step is None or step < self.until_step)


@dataclass(frozen=True, eq=False)
class Teacher:
    """The frozen model, whole on every rank."""

    module: nn.Module
    config: DistillConfig

    @classmethod
    def of(
        cls, module: nn.Module, config: DistillConfig, device: torch.device, dtype: torch.dtype
    ) -> Teacher:
        """``module`` itself becomes the teacher."""
        return cls(module.to(device, dtype).eval().requires_grad_(False), config)

    def guide(self, batch: Batch) -> Guide | None:
        """What it makes of a batch; None where its step is no longer guided."""
        if not self.config.is_on(batch.step):
            return None
        with torch.no_grad():
            outputs: Tensor = self.module.outputs(batch)  # type: ignore[operator]
        return Guide(outputs, self.config.weight, self.config.temperature)


def divergence(logits: Tensor, guide: Guide) -> Tensor:
    """KL of the guide's distributions and those of ``logits`` [..., V], [...], float32.

    Both at the guide's temperature T and times T^2 (Hinton et al. 2015, section 2), so that its
    gradient keeps its size whatever T is.
    """
    ours = F.log_softmax(logits.float() / guide.temperature, dim=-1)
    theirs = F.log_softmax(guide.outputs.float() / guide.temperature, dim=-1)
    apart = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1)
    return apart * guide.temperature**2
