"""One step of training: passes, the update, and what all ranks have to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from pretrain.config import Config
from pretrain.distill import Teacher
from pretrain.engine import Engine
from pretrain.intake import StepData
from pretrain.pace import Pace
from pretrain.processes import Processes
from pretrain.saving import Saving
from pretrain.schedule import rate_factor
from pretrain.start import Course
from pretrain.stop import Asked
from pretrain.stopwatch import Stopwatch
from pretrain.updating import Updating
from shards.collate import Batch


def accumulate(
    engine: Engine, teacher: Teacher | None, data: StepData, seed: int, clock: Stopwatch
) -> dict[str, Tensor]:
    """Forward and backward over one rank's batches of a step; the model's terms, summed.

    Every loss is divided by the step's targets over all ranks, so that neither accumulation nor
    padding nor the number of ranks changes the objective. ``clock`` times the passes, beside the
    wait for ``data``; in backward passes a rank waits for others.
    """
    clock.add("data", data.own_wait)
    sums: dict[str, Tensor] = {}
    for batch in data.batches:
        torch.manual_seed(dropout_seed(seed, batch))
        with clock.running("forward"):
            terms = engine.forward(batch, teacher.guide(batch) if teacher else None)
        share = batch.weight / max(1, data.tokens)
        with clock.running("backward"):
            engine.backward(terms["loss"].sum(), share, last=batch is data.batches[-1])
        for name, term in terms.items():
            sums[name] = sums.get(name, 0) + term.detach().sum() * batch.weight
    return sums


def rate_at(config: Config, course: Course, step: int) -> float:
    """The learning rate of a step."""
    points = course.resume_points
    return config.optimizer.lr * rate_factor(config.schedule, step, course.target, points)


def update(
    config: Config,
    course: Course,
    updating: Updating,
    saving: Saving,
    step: int,
    loss: Tensor,
    data: StepData,
    clock: Stopwatch,
) -> dict[str, Tensor]:
    """`Updating.update`, once no weight is still to be copied for a checkpoint."""
    with clock.running("checkpoint"):
        saving.saver.wait_for_copy()
    with clock.running("optimizer"):
        return updating.update(step, rate_at(config, course, step - 1), loss, data.tokens)


def reduced(
    processes: Processes,
    asked: Asked,
    busy: float,
    terms: Mapping[str, Tensor],
    tokens: int,
    found: Mapping[str, Tensor],
) -> tuple[Asked, Pace, dict[str, float], dict[str, float]]:
    """What any rank was asked for, all ranks' ``busy`` seconds, the terms' means over the targets
    of all ranks, and the sums over ranks of what the update has ``found``.
    """
    known = np.concatenate([np.array(asked, np.float64), processes.by_rank(busy)])
    sums = iter(processes.sum(known, [*terms.values(), *found.values()]))
    anywhere = Asked(*map(bool, islice(sums, len(asked))))
    pace = Pace(np.array(list(islice(sums, processes.world_size))))
    means = {name: next(sums) / max(1, tokens) for name in terms}
    return anywhere, pace, means, dict(zip(found, sums, strict=True))


def dropout_seed(seed: int, batch: Batch) -> int:
    """The same dropout for a micro-batch on whatever rank and after whatever restart."""
    words = np.random.SeedSequence([seed, batch.step, batch.index]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))
