"""The best validation of a run, and when to end for want of a better one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pretrain.held_out import OWN, ValidationConfig


@dataclass(frozen=True)
class Best:
    """The lowest validation loss of a run so far, and the validations ``since`` then."""

    loss: float = math.inf
    step: int = 0
    since: int = 0

    def after(self, loss: float, step: int) -> Best:
        """What it is after a validation at ``step``; a loss that is no number is no best."""
        return Best(loss, step) if loss < self.loss else replace(self, since=self.since + 1)

    def figures(self) -> dict[str, float]:
        """What a checkpoint keeps of it."""
        if math.isinf(self.loss):
            return {}
        return {f"best_{OWN}_loss": self.loss, "best_step": self.step, "since_best": self.since}

    @classmethod
    def of(cls, figures: Mapping[str, float]) -> Best:
        """What `figures` kept."""
        if "best_step" not in figures:
            return cls()
        loss, step, since = (
            figures[name] for name in (f"best_{OWN}_loss", "best_step", "since_best")
        )
        return cls(loss, int(step), int(since))


def spent(validation: ValidationConfig, best: Best) -> bool:
    """Whether ``validation.stop_after`` validations brought no new best."""
    return validation.stop_after is not None and best.since >= validation.stop_after
