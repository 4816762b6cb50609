"""What a user is told of a new run's length for the data that there is."""

from __future__ import annotations

from collections.abc import Iterator

from pretrain.config import MOST_EPOCHS, TrainConfig
from shards.plan import Plan

ENOUGH_HOURS = 100.0
"""Upstream's maintainers put continued training at 100 h and more, a base model at 400 h."""
SMALL_HOURS = 1000.0


def hours_of(plan: Plan) -> float:
    """Audio of the clips that a run takes; where it leaves some out, by their share."""
    rows = sum(len(source.index) for source in plan.corpus.sources)
    total = sum(float(source.index.seconds.sum()) for source in plan.corpus.sources)
    return total / 3600 * min(1.0, float(plan.census.totals.sum()) / max(1, rows))


def advice(train: TrainConfig, plan: Plan, *, validates: bool) -> Iterator[str]:
    """A line for each thing that is likely to go wrong with so much data."""
    hours, epochs = hours_of(plan), plan.progress(train.target(plan))
    if train.steps is None and train.epochs is None:
        yield (
            f"train.steps and train.epochs are not set: the run ends after {MOST_EPOCHS} epochs, "
            "beyond which small corpora are over-fitted; set train.epochs for more"
        )
    elif epochs > MOST_EPOCHS and hours < SMALL_HOURS:
        yield (
            f"the target is {epochs:.0f} epochs of {hours:,.1f} h; beyond {MOST_EPOCHS} a model "
            "tends to learn clips by heart"
        )
    if hours < ENOUGH_HOURS:
        watch = (
            "watch validation/loss"
            if validates
            else ("pack with validation=0.01 to see how it does on clips that are held out")
        )
        yield (
            f"{hours:,.1f} h of speech is little (from {ENOUGH_HOURS:.0f} h on is usual for "
            f"continued pretraining): {watch}"
        )
