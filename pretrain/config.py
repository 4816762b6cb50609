"""A run's configuration: the sections a user writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from pretrain.checkpoint.keep import CheckpointConfig
from pretrain.checkpoint.location import run_store
from pretrain.checkpoint.store import Store
from pretrain.components import ComponentConfig
from pretrain.distill import DistillConfig
from pretrain.groups import OptimizerConfig
from pretrain.health import HealthConfig
from pretrain.held_out import ValidationConfig
from pretrain.metrics.trackers import TENSORBOARD
from pretrain.models import with_family
from pretrain.models.protocol import Family
from pretrain.preview import PreviewConfig
from pretrain.profiling import ProfileConfig
from pretrain.schedule import ScheduleConfig
from pretrain.weights.rules import AllowConfig
from pretrain.zero import DeepSpeedConfig, Precision
from shards import settings
from shards.dataset import DataConfig
from shards.errors import UserError
from shards.plan import BatchConfig, Plan
from shards.section import Section

MOST_EPOCHS = 15
"""Epochs of a run that does not say how many."""


MOST_SECONDS = 7 * 24 * 3600
"""The longest time to wait for a sign of life."""


class RunConfig(Section):
    """``run``: where a run keeps everything it writes, ``dir/name``."""

    name: str = Field(pattern=r"^[\w][\w.-]*$", description="one run, one name")
    dir: Path = Path("runs")

    @property
    def folder(self) -> Path:
        """The run's own folder."""
        return self.dir / self.name


class TrainConfig(Section):
    """``train``: absolute targets, how often to report, and when a run counts as hung."""

    steps: int | None = Field(default=None, ge=1, description="stop after this optimizer step")
    epochs: float | None = Field(
        default=None,
        gt=0,
        description="stop after this many epochs; 15 where neither this nor steps is set",
    )
    log_every: int = Field(default=10, ge=1, description="steps between lines on the terminal")
    figures_every: int = Field(
        default=10,
        ge=1,
        description="steps between the gradient norm and update ratio of each component",
    )
    hang_timeout: float = Field(
        default=600,
        gt=0,
        le=MOST_SECONDS,
        description="seconds without a step or a batch of a validation after which every process "
        "writes where it is to the run's folder hang and ends",
    )
    start_timeout: float = Field(
        default=1800,
        gt=0,
        le=MOST_SECONDS,
        description="the same for the start up to the first step, for staged unfreezing and saves; "
        "also how long processes wait for one another",
    )

    def target(self, plan: Plan) -> int:
        """The step to stop after: the nearer of ``steps`` and ``epochs``; 15 epochs without."""
        limits = [self.steps] if self.steps else []
        epochs = self.epochs or (None if self.steps else MOST_EPOCHS)
        if epochs:
            limits.append(max(1, plan.step_at(epochs)))
        return min(limits)


class Config(Section):
    """Everything a run is made of."""

    run: RunConfig
    data: DataConfig
    batch: BatchConfig
    train: TrainConfig
    checkpoint: CheckpointConfig = CheckpointConfig()
    model: Family
    components: dict[str, ComponentConfig] = Field(default_factory=dict)
    init_from: str | None = Field(
        default=None,
        description="weights that a new run begins with: a released checkpoint or our own, a file, "
        "folder or URL",
    )
    init_level: Literal["weights", "weights+optimizer", "all"] = Field(
        default="weights",
        description="also the moments, of our checkpoints and Seed-VC's training files; of ours "
        "also all, step and epoch included",
    )
    init_check: bool = Field(
        default=True, description="refuse weights that do no better than fresh ones"
    )
    allow: AllowConfig = AllowConfig()
    rename: dict[str, str] = Field(
        default={}, description="regular expression: replacement, for names in init_from"
    )
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    health: HealthConfig = HealthConfig()
    profile: ProfileConfig = ProfileConfig()
    validation: ValidationConfig = ValidationConfig()
    preview: PreviewConfig = PreviewConfig()
    distill: DistillConfig = DistillConfig()
    trackers: tuple[str, ...] = Field(
        default=(TENSORBOARD,),
        description="what draws a run's curves; others by their names in Accelerate",
    )
    deepspeed: DeepSpeedConfig = DeepSpeedConfig()
    precision: Precision = "bf16"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = Field(default=0, ge=0)

    @classmethod
    def kind_for(cls, values: Mapping[str, Any]) -> type[Self]:
        """With the sizes of the model family that ``values`` name."""
        return with_family(cls, values)

    def checkpoints(self) -> Store:
        """Where the run's checkpoints lie; UserError for a URL of an unknown protocol."""
        try:
            return run_store(self.run.folder, self.run.name, self.checkpoint.dir)
        except UserError as error:
            raise UserError(f"checkpoint.dir: {error}") from error


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """A run's configuration; UserError as `shards.settings.load`."""
    return settings.load(Config, path, overrides)
