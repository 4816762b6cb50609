"""Everything that can be told of a run before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pretrain.components import Training, training
from pretrain.config import Config
from pretrain.estimate.activations import Passes, passes
from pretrain.estimate.course import Stage, stages
from pretrain.estimate.disk import Disk, disk
from pretrain.estimate.memory import (
    USABLE,
    WAYS,
    Memory,
    Numbers,
    Setting,
    Way,
    memory,
    possible,
)
from pretrain.metrics.files import read_log
from pretrain.preflight import Ready
from pretrain.start import DTYPES
from shards.plan import MicroBatch, Plan
from shards.stream import read_batch

RECENT = 200
"""Steps of a run's log from which its throughput is taken."""


@dataclass(frozen=True)
class Largest:
    """A micro-batch of the greatest cost and what its passes take, None where a model's cannot be
    told without its values.
    """

    clips: int
    seconds: float
    longest: float
    bucket: int
    passes: Passes | None


@dataclass(frozen=True)
class Throughput:
    """Targets or hours of audio over all processes, in a second or in an hour.

    ``processes`` is with how many it was measured, None where it is given.
    """

    tokens_per_second: float | None = None
    hours_per_hour: float | None = None
    source: str = "given"
    processes: int | None = None

    def seconds(self, course: tuple[Stage, ...]) -> float:
        """The time that all stages take."""
        if self.tokens_per_second:
            return sum(stage.targets for stage in course) / self.tokens_per_second
        assert self.hours_per_hour
        return 3600 * sum(stage.hours for stage in course) / self.hours_per_hour


@dataclass(frozen=True)
class Estimate:
    """A run on ``ranks`` processes with its target, what trains, its course, memory, disk and time.

    ``memory`` has only the ways that the run's precision allows; ``fitting`` is the first of them
    that leaves room on a device of ``gpu_bytes``, ``chosen`` the one that the run is set to.
    """

    ranks: int
    target: int
    steps_per_epoch: int
    training: Training
    numbers: Numbers
    stages: tuple[Stage, ...]
    largest: tuple[Largest, ...]
    memory: Mapping[Way, Memory]
    chosen: Way
    gpu: str
    gpu_bytes: int
    disk: Disk
    throughput: Throughput | None

    @property
    def fitting(self) -> Way | None:
        """The way that communicates least of those that fit."""
        return next((way for way, need in self.memory.items() if self.fits(need)), None)

    def fits(self, need: Memory) -> bool:
        """Whether a process has room, with a tenth of the device for what is not counted."""
        return need.device <= USABLE * self.gpu_bytes

    @property
    def seconds(self) -> float | None:
        """The time to the target, where a throughput of so many processes is known."""
        if self.throughput is None or self.throughput.processes not in {None, self.ranks}:
            return None
        return self.throughput.seconds(self.stages)


def estimate(
    config: Config,
    ready: Ready,
    *,
    ranks: int,
    gpu: tuple[str, int],
    throughput: Throughput | None,
) -> Estimate:
    """What a run that `preflight.check` passed will take on ``ranks`` processes."""
    plan = ready.plan
    target = config.train.target(plan)
    trained = training(ready.outline, config.components, config.optimizer, plan.step_at)
    numbers = Numbers.of(trained, target - 1, taught=config.distill.is_on(0))
    largest = tuple(_largest(config, ready, trained, micro) for micro in plan.costliest())
    size = numbers.checkpoint_bytes(averages=config.optimizer.ema_decay > 0)
    return Estimate(
        ranks=ranks,
        target=target,
        steps_per_epoch=plan.step_at(1) - plan.origin.step,
        training=trained,
        numbers=numbers,
        stages=stages(plan, config.model, target),
        largest=largest,
        memory=_memory(config, ready, numbers, ranks, activations_of(largest)),
        chosen=Way(ready.zero.stage or 0, ready.zero.offload == "cpu"),
        gpu=gpu[0],
        gpu_bytes=gpu[1],
        disk=disk(config.checkpoint, plan, target, size, validates=bool(ready.held_out)),
        throughput=throughput or measured(config),
    )


def activations_of(largest: tuple[Largest, ...]) -> int:
    """Bytes of the heaviest of them; 0 where none is known."""
    return max((one.passes.peak for one in largest if one.passes), default=0)


def _memory(
    config: Config, ready: Ready, numbers: Numbers, ranks: int, activations: int
) -> dict[Way, Memory]:
    setting = Setting(
        ranks=ranks,
        precision=config.precision,
        accumulates=ready.accumulation > 1,
        averages=config.optimizer.ema_decay > 0,
        on_cpu=ready.device == "cpu",
    )
    return {
        way: memory(numbers, way, setting, activations)
        for way in WAYS
        if possible(way, config.precision)
    }


def _largest(config: Config, ready: Ready, trained: Training, micro: MicroBatch) -> Largest:
    plan = ready.plan
    seconds = plan.corpus.seconds(micro.rows)
    return Largest(
        clips=len(micro.rows),
        seconds=float(len(seconds) * seconds.max()),
        longest=float(seconds.max()),
        bucket=micro.bucket,
        passes=_passes(config, plan, trained, micro, on_cuda=ready.device == "cuda"),
    )


def _passes(
    config: Config, plan: Plan, trained: Training, micro: MicroBatch, *, on_cuda: bool
) -> Passes | None:
    """With all that will ever train; None where the model's forward asks for a tensor's value."""
    with torch.device("meta"):
        model = config.model.build()
    last = config.train.target(plan) - 1
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained.treatments[name].trains_at(last))
    batch = read_batch(plan, config.model.fields(), micro, config.data)
    try:
        return passes(model, batch, DTYPES[config.precision], on_cuda=on_cuda)
    except NotImplementedError:
        return None


def measured(config: Config) -> Throughput | None:
    """The throughput of the last steps of the run's last start, where its log has some.

    Wall time passes between the ends of two steps: validations and saves are in it.
    """
    log = config.run.folder / "log.jsonl"
    records = read_log(log)[-RECENT:]
    started = [(one.get("start"), one.get("processes")) for one in records]
    steps = [one for one, start in zip(records, started, strict=True) if start == started[-1]]
    if len(steps) < 2 or not steps[-1].get("processes"):
        return None
    seconds = steps[-1]["time"] - steps[0]["time"]
    if seconds <= 0:
        return None
    hours = sum(step["audio_seconds"] for step in steps[1:]) / seconds
    processes = int(steps[-1]["processes"])
    source = f"the last {len(steps) - 1} steps of {log}, {processes} processes"
    return Throughput(hours_per_hour=hours, source=source, processes=processes)
