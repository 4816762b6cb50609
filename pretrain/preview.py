"""Previews: what the model makes of a few clips, to be seen and heard while it learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field

from pretrain.held_out import OWN
from pretrain.models.protocol import Family, Preview, Previewing
from pretrain.validation import SEED
from shards.collate import Batch
from shards.corpus import Rows
from shards.dataset import DataConfig
from shards.plan import MicroBatch, Plan
from shards.section import Section
from shards.stream import read_batch

if TYPE_CHECKING:
    from pretrain.config import Config
    from pretrain.engine import Engine
    from pretrain.start import Course, Say


class PreviewConfig(Section):
    """``preview``: pictures and sounds of a few clips, for models that make them."""

    every: int | None = Field(
        default=None,
        ge=1,
        description="steps between previews; left out: validation.every, or checkpoint.every",
    )
    clips: int = Field(default=3, ge=0, description="how many clips; 0: no previews")


class Previewer:
    """A run's previews. All ranks call every method together."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        course: Course,
        alive: Callable[[], None],
        say: Say,
    ) -> None:
        """Read the clips, set apart where some are; ``alive`` is called with each when it is seen.

        They come from rank 0, so that no other can miss one alone.
        """
        self._engine, self._target, self._alive = engine, course.target, alive
        self._every = config.preview.every or config.validation.every or config.checkpoint.every
        self._batches: list[Batch] = []
        if config.preview.clips and isinstance(engine.module, Previewing):
            own = (one for one in course.held_out if one.name == OWN)
            plan, data = next(((one.plan, one.data) for one in own), (course.plan, config.data))
            self._batches = engine.processes.first(
                lambda: clips_to_preview(plan, config.model, data, config.preview.clips, say)
            )

    def first(self, step: int) -> list[Preview]:
        """Those of a run that has done no step."""
        return [] if step else self._made()

    def after(self, step: int) -> list[Preview]:
        """Those after ``step`` steps, where they are due."""
        return self._made() if step % self._every == 0 or step == self._target else []

    def _made(self) -> list[Preview]:
        engine, device = self._engine, self._engine.processes.device
        if not self._batches:
            return []
        made: list[Preview] = []
        cards = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(cards), engine.averaged(), engine.evaluating():
            engine.forget_order()
            for batch in self._batches:
                self._alive()
                torch.manual_seed(SEED)
                made.extend(previews(engine.module, batch.to(device)))
        return made


def previews(module: torch.nn.Module, batch: Batch) -> Sequence[Preview]:
    """What a model makes of a batch; nothing where it makes no previews."""
    return module.previews(batch) if isinstance(module, Previewing) else ()


def clips_to_preview(
    plan: Plan, model: Family, data: DataConfig, count: int, say: Say
) -> list[Batch]:
    """Batches of one clip each, of those `middling`; clips that cannot be read are left out."""
    data = data.model_copy(update={"on_error": "skip"})
    found = []
    for row in middling(plan, count):
        micro = MicroBatch(step=0, index=0, bucket=0, rows=np.array([row]))
        batch = read_batch(plan, model.fields(), micro, data)
        if batch.keys:
            found.append(batch)
        for failure in batch.failures:
            say(f"preview: clip {failure.key} of {failure.shard} left out: {failure.reason}")
    return found


def middling(plan: Plan, count: int) -> Rows:
    """The rows of ``count`` clips of medium length, or of all there are.

    The first of the bucket with the median clip, then of those next to it; the order is that of
    the shards, whatever the run's seed.
    """
    census = plan.census
    ends = np.cumsum(census.totals)
    middle = int(np.searchsorted(ends, ends[-1] / 2))
    found = list[int]()
    for bucket in sorted(range(len(ends)), key=lambda bucket: abs(bucket - middle)):
        for shard in np.flatnonzero(census.counts[:, bucket]).tolist():
            if len(found) >= count:
                return np.array(found[:count], dtype=np.int64)
            found.extend(census.bucket_rows(shard, bucket).tolist())
    return np.array(found[:count], dtype=np.int64)
