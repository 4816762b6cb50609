"""Validation: the loss on clips that are held out, the same on any number of processes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from pretrain.best import Best, spent
from pretrain.checkpoint.keep import VALIDATION_LOSS
from pretrain.held_out import OWN, HeldOut, own_digest
from pretrain.models.protocol import Family, Terms
from pretrain.scores import ALL, ClipSums, Score, merged, scores
from shards.ahead import on_device
from shards.collate import Batch
from shards.errors import UserError
from shards.reading import Failure
from shards.stream import stream

if TYPE_CHECKING:
    from pretrain.checkpoint.restore import Resume
    from pretrain.config import Config
    from pretrain.engine import Engine

Scores = Mapping[str, Mapping[str, Score]]
"""By set, then by group of clips."""
VALIDATED = "validated"
"""Among a checkpoint's figures where its step was validated, on whatever clips."""
SEED = 0
"""What a model draws for a clip is the same in every validation and preview, on every rank."""


class Together(Protocol):
    """What validating needs of the process group."""

    @property
    def rank(self) -> int: ...
    @property
    def world_size(self) -> int: ...
    @property
    def device(self) -> torch.device: ...
    def gather(self, value: Any) -> list[Any]: ...


@dataclass(frozen=True)
class Alone:
    """One process by itself."""

    device: torch.device
    rank: int = 0
    world_size: int = 1

    def gather(self, value: Any) -> list[Any]:
        """Its own value."""
        return [value]


@dataclass(frozen=True)
class Results:
    """The ``scores`` of one validation, the seconds it took, and the clips that could not be read
    for it.
    """

    scores: Scores
    seconds: float
    failures: tuple[Failure, ...] = ()


def validate(
    forward: Callable[[Batch], Terms], sets: tuple[HeldOut, ...], model: Family, ranks: Together
) -> Results:
    """The scores of every set, by its name; all ranks get the same.

    ``forward`` is to be in evaluation mode. Clips that cannot be read are left out and told;
    UserError where that leaves none.
    """
    found: dict[str, Mapping[str, Score]] = {}
    failures: list[Failure] = []
    began = time.perf_counter()
    for held in sets:
        failed: list[Failure] = []
        own = merged(list(_own_sums(forward, held, model, ranks, failed)))
        shares = ranks.gather((own, failed))
        sums = merged([share for share, _ in shares])
        failures += [failure for _, share in shares for failure in share]
        if not len(sums.rows):
            raise UserError(
                f"validation: no clip of {held.name} can be read ({failures[-1].shard}: "
                f"{failures[-1].reason}); mend its shards or leave it out"
            )
        targets = model.targets(held.plan.corpus, sums.rows)
        found[held.name] = scores(held.plan.corpus, sums, targets)
    return Results(found, time.perf_counter() - began, tuple(failures))


def _own_sums(
    forward: Callable[[Batch], Terms],
    held: HeldOut,
    model: Family,
    ranks: Together,
    failed: list[Failure],
) -> Iterator[ClipSums]:
    own = stream(
        held.plan,
        model.fields(),
        range(held.steps),
        rank=ranks.rank,
        world_size=ranks.world_size,
        config=held.data,
        pin_memory=ranks.device.type == "cuda",
    )
    for batch in on_device(own, ranks.device, depth=1):
        torch.manual_seed(SEED)
        terms = forward(batch)  # stand-ins too: ZeRO-3 gathers weights on all ranks together
        failed.extend(batch.failures)
        if len(batch.rows):
            yield ClipSums(
                np.asarray(batch.rows),
                {name: term.double().cpu().numpy() for name, term in terms.items()},
            )


def described(results: Scores) -> str:
    """One readable phrase for each set."""
    return ", ".join(
        f"{name} "
        + " ".join(f"{term} {value:.4f}" for term, value in by_group[ALL].terms.items())
        + f" ({by_group[ALL].clips:,} clips)"
        for name, by_group in results.items()
    )


class Validator:
    """A run's validations. All ranks call every method together."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        sets: tuple[HeldOut, ...],
        target: int,
        resume: Resume | None,
        alive: Callable[[], None],
    ) -> None:
        """The best so far is what the checkpoint ``resume`` keeps of it, if of the same clips.

        ``alive`` is called with each micro-batch.
        """
        self._config, self._engine, self._sets, self._target = config, engine, sets, target
        self._alive = alive
        self._best = best_of(resume, sets)
        saved = resume.manifest.state.figures if resume else {}
        self._owed = VALIDATED not in saved and (resume or config.init_from) is not None
        self._measured: dict[str, float] = {}
        self._step = -1

    def figures(self, step: int) -> dict[str, float]:
        """For the checkpoint of ``step``: whether and how it was validated, and the best so far."""
        return (self._measured if step == self._step else {}) | self._best.figures()

    @property
    def best(self) -> Best:
        """The best validation so far."""
        return self._best

    @property
    def spent(self) -> bool:
        """Whether the run is to end because validation does not get better."""
        return spent(self._config.validation, self._best)

    def first(self, step: int) -> Results | None:
        """`after` where the run begins, if that says something new.

        Imported weights were not validated before; nor was a checkpoint of a run that was asked to
        stop just then.
        """
        return self.after(step) if self._owed else None

    def after(self, step: int) -> Results | None:
        """What came of a validation after ``step`` steps, where one is due."""
        every = self._config.validation.every or self._config.checkpoint.every
        if not self._sets or (step % every and step != self._target):
            return None
        found = measured(self._config, self._engine, self._sets, self._alive)
        self._step, self._measured = step, {VALIDATED: 1.0}
        if OWN in found.scores:
            loss = found.scores[OWN][ALL].terms["loss"]
            self._best = self._best.after(loss, step)
            if math.isfinite(loss):
                self._measured[VALIDATION_LOSS] = loss
        return found


def measured(
    config: Config,
    engine: Engine,
    sets: tuple[HeldOut, ...],
    alive: Callable[[], None] = lambda: None,
) -> Results:
    """`validate` with a run's engine; all ranks end together with a UserError."""

    def forward(batch: Batch) -> Terms:
        alive()
        return engine.forward(batch)

    with engine.evaluating():
        return engine.processes.each(
            lambda: validate(forward, sets, config.model, engine.processes)
        )


def best_of(resume: Resume | None, sets: tuple[HeldOut, ...]) -> Best:
    """The best validation on these clips of the run that goes on from ``resume``."""
    if resume is None or resume.manifest.state.held_out != own_digest(sets):
        return Best()
    return Best.of(resume.manifest.state.figures)
