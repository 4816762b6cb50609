"""The optimizer's step in a run: what is held back, and what is told of the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from pretrain.checkpoint.manifest import Manifest
from pretrain.checkpoint.restore import Resume
from pretrain.checkpoint.store import newest
from pretrain.config import Config
from pretrain.engine import Engine
from pretrain.fragment import Fragment
from pretrain.groups import Group
from pretrain.health import Health, Limits, reason
from pretrain.intake import StepData
from pretrain.models.outline import Outline
from pretrain.norms import gradient_squares, update_squares
from pretrain.start import Say
from shards.plan import StepPlan

OTHER = "other"
"""The component of a parameter that belongs to none."""
MOST_CLIPS = 4
Sums = Mapping[str, float]


class Updating:
    """Moves the weights, but not where a step is not finite or spikes; the same on all ranks.

    What `update` finds out stays on the device until the loop's one reduction brings it to
    `learned`, so no step waits for it. ``health`` goes on from the checkpoint ``resume``.
    """

    def __init__(
        self, config: Config, engine: Engine, outline: Outline, resume: Resume | None, say: Say
    ) -> None:
        self._config, self.engine, self._outline, self._say = config, engine, outline, say
        self.health = resume.manifest.state.health if resume else Health()
        self.limits = Limits()
        self.reason = ""
        """Why the last step moved nothing, "" if it moved."""
        self.gradient_norm, self.rate = 0.0, 0.0
        self._gauges: dict[str, float] = {}
        self._factors: tuple[Sequence[Group], Mapping[str, float]] = ((), {})

    def update(self, step: int, rate: float, loss: Tensor, tokens: int) -> dict[str, Tensor]:
        """Move the weights in the step that ends as number ``step``, at learning rate ``rate``.

        ``loss`` is this rank's sum over ``tokens`` targets of all ranks. Answers 0-dim tensors to
        be summed over ranks for `learned`.
        """
        self.rate = rate
        total = self.engine.processes.total(loss) / max(1, tokens)
        self.limits = self.health.limits(self._config.health)
        bad = ~total.isfinite() | (total > self.limits.loss)
        return self._step(rate, bad, due=step % self._config.train.figures_every == 0)

    def learned(self, step: int, loss: float, sums: Sums) -> None:
        """What `update` found, summed over ranks: ``loss`` is the mean over all targets."""
        ranks = self.engine.processes.world_size
        self.gradient_norm, skipped = sums["norm"] / ranks, bool(sums["held"])
        self.health = self.health.after(
            self._config.health, loss, self.gradient_norm, skipped=skipped
        )
        self.reason = reason(loss, self.gradient_norm, self.limits) if skipped else ""
        if skipped:
            self._say(f"step {step} is skipped: {self.reason}")
        self._gauges = self._figures(sums, skipped=skipped)

    @property
    def gauges(self) -> dict[str, float]:
        """Figures of the last step, by TensorBoard's names."""
        counts = {"non_finite_steps": self.health.non_finite, "spikes": self.health.spikes}
        return {f"health/{name}": count for name, count in counts.items()} | self._gauges

    @property
    def rates(self) -> dict[str, float]:
        """The last step's learning rate of each group, and the highest of each component."""
        groups = self.engine.groups
        if self._factors[0] is not groups:  # more began to train
            factors: dict[str, float] = {}
            for group in groups:
                for name in sorted({self._of(parameter) for parameter in group.parameters}):
                    factors[name] = max(group.lr_scale, factors.get(name, 0.0))
            self._factors = groups, factors
        components = {name: self.rate * factor for name, factor in self._factors[1].items()}
        return components | self.engine.rates(self.rate)

    def _step(self, rate: float, bad: Tensor, *, due: bool) -> dict[str, Tensor]:
        engine = self.engine
        held, most = bad, self.limits.norm
        squares: dict[str, Tensor] = {}

        def look(norm: Tensor, gradients: Iterator[Fragment]) -> Tensor:
            nonlocal held
            norm = norm.to(bad.device)
            held = bad | ~norm.isfinite() | (norm > most)
            for component, square in gradient_squares(gradients if due else (), self._of).items():
                squares[component] = squares.get(component, 0) + square
            return held.float()

        moved = engine.step(rate, look)
        found = {"norm": engine.gradient_norm, "held": held if moved else torch.ones(())}
        return found | (self._figured(squares, rate) if due and moved else {})

    def _figured(self, gradients: Mapping[str, Tensor], rate: float) -> dict[str, Tensor]:
        engine = self.engine
        found = update_squares(
            engine.trained(), self._of, engine.groups, rate, self._config.optimizer, engine.updates
        )
        nothing = torch.zeros((), dtype=torch.float64, device=engine.processes.device)
        figures: dict[str, Tensor] = {}
        for name in sorted(
            {self._of(name) for group in engine.groups for name in group.parameters}
        ):
            moves, weights = found.get(name, (nothing, nothing))
            figures |= {
                f"gradient/{name}": gradients.get(name, nothing),
                f"moves/{name}": moves,
                f"weights/{name}": weights,
            }
        return figures

    def _figures(self, sums: Sums, *, skipped: bool) -> dict[str, float]:
        clip = self._config.optimizer.clip
        factor = max(1.0, (self.gradient_norm + 1e-6) / clip) if clip else 1.0
        figures = {}
        for key, square in sums.items():
            kind, _, name = key.partition("/")
            if kind == "gradient" and math.isfinite(square):  # they were seen clipped
                figures[f"optimizer/gradient_norm/{name}"] = factor * math.sqrt(square)
            if kind == "weights" and square and not skipped:
                ratio = math.sqrt(sums[f"moves/{name}"] / square)
                figures[f"optimizer/update_ratio/{name}"] = ratio
        return figures

    def _of(self, name: str) -> str:
        return self._outline.component_of(name) or OTHER


def refuse_skips(config: Config, step_plan: StepPlan, updating: Updating, data: StepData) -> None:
    """End a run that no longer makes progress with a UserError, on all ranks alike."""
    if updating.health.in_a_row < config.health.max_skips:
        return
    processes = updating.engine.processes
    listing = f"segue shards plan {config.run.folder / 'config.yaml'} --step {step_plan.step}"
    blamed = blame(costliest_clips(updating.engine, data), listing)
    intact = processes.first(lambda: _has_checkpoint(config))
    processes.fail(
        f"nothing moved in {updating.health.in_a_row} steps in a row (health.max_skips), the last "
        f"one step {step_plan.step + 1} of bucket {step_plan.bucket}: {updating.reason}; {blamed}"
        + (" (the last checkpoint is intact)" if intact else "")
    )


def blame(clips: Sequence[tuple[float, str]], listing: str) -> str:
    """What to do about a step of these clips, as `costliest_clips` has them.

    ``listing`` is the command that lists them.
    """
    if clips and not any(math.isfinite(loss) for loss, _ in clips):
        return (
            "the loss of all its clips is not finite: the weights or the rate are at fault, not "
            "the clips; lower optimizer.lr"
        )
    worst = ", ".join(key for _, key in clips[:MOST_CLIPS])
    return (
        f"its clips of the largest loss are {worst} (look with segue shards show or play SHARDS "
        f"KEY), and {listing} lists all; leave them out or lower optimizer.lr"
    )


def _has_checkpoint(config: Config) -> bool:
    return any(isinstance(found, Manifest) for _, found in newest(config.checkpoints()))


def costliest_clips(engine: Engine, data: StepData) -> list[tuple[float, str]]:
    """Loss and key of a step's clips over all ranks: those not finite first, then by loss."""
    found: list[tuple[float, str]] = []
    with engine.evaluating():
        for batch in data.batches:
            losses = engine.forward(batch)["loss"].tolist()
            found += zip(losses, batch.keys, strict=False) if batch.weight else ()
    everywhere = [pair for own in engine.processes.gather(found) for pair in own]
    everywhere.sort(key=lambda pair: -pair[0] if math.isfinite(pair[0]) else -math.inf)
    return everywhere
