"""The largest micro-batch of each length bucket that a device takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pretrain.components import training
from pretrain.config import Config, load
from pretrain.estimate.memory import USABLE, Numbers, Setting, Way, memory
from pretrain.peak import resident
from pretrain.preflight import Ready, check, choose_device
from pretrain.tune.search import Fit, largest
from pretrain.tune.trials import Trials, refuse_too_little


@dataclass(frozen=True)
class Tuner:
    """A checked run of ``ranks`` processes and the bytes of one that a micro-batch may take."""

    config: Config
    ready: Ready
    ranks: int
    device: torch.device
    room: int

    def fits(self) -> Iterator[Fit]:
        """What fits of each bucket, from the longest clips to the shortest.

        Each is found by trying; a process never runs out of memory for good by that.
        """
        plan = self.ready.plan
        trials = Trials(self.config, self._trained(), plan, self.device)
        spent = 0.0
        for bucket in reversed(range(len(plan.census.buckets))):
            fit = self._fit(trials, bucket, spent)
            spent = fit.clips * fit.cost
            yield fit

    def _fit(self, trials: Trials, bucket: int, spent: float) -> Fit:
        """``spent``: the budget that the bucket before took, where to look first."""
        plan = self.ready.plan
        cost = plan.cost.of(plan.census.buckets[bucket].edge)
        batch = trials.longest(bucket)
        peaks: dict[int, int] = {}

        def fits(clips: int) -> bool:
            growth = trials.growth(batch, clips)
            if growth is not None and growth <= self.room:
                peaks[clips] = growth
            return clips in peaks

        most = int(self.config.batch.budget.step / self.ranks / cost + 1e-6)
        clips = largest(fits, most, int(spent / cost))
        seconds = float(plan.corpus.seconds(batch.rows).max())
        return Fit(bucket, cost, seconds, clips, peaks.get(clips, 0))

    def _trained(self) -> frozenset[str]:
        config, plan = self.config, self.ready.plan
        found = training(self.ready.outline, config.components, config.optimizer, plan.step_at)
        groups = found.groups(config.train.target(plan) - 1)
        return frozenset(name for group in groups for name in group.parameters)


def tuner(path: Path, overrides: Sequence[str], ranks: int, limit_gb: float | None) -> Tuner:
    """A tuner for the config at ``path`` on the device of this machine.

    ``limit_gb`` is what one process may have in all, by default the GPU's memory or half of what
    this machine has free. UserError for what would stop the run, whatever its micro-batch, and for
    a limit that leaves no room.
    """
    budget = load(path, overrides).batch.budget
    whole = f"{budget.micro_option}={budget.step / ranks!r}"  # one micro-batch a process
    another_order = "data.on_change=restart_epoch"  # a run that has checkpoints is tuned too
    config = load(path, [*overrides, whole, another_order])
    device = torch.device(choose_device(config.device, 1))
    ready = check(config, world_size=ranks, device=device.type, environ={})
    limit = limit_gb * 1e9 if limit_gb else _found(device)
    taken = _taken(config, ready, ranks)
    if device.type == "cpu":
        taken += resident("VmRSS")
    room = int(USABLE * limit - taken)
    remedy = "raise --memory" if limit_gb else "use more processes or a higher deepspeed.stage"
    refuse_too_little(room, USABLE * limit, taken, remedy)
    return Tuner(config, ready, ranks, device, room)


def _taken(config: Config, ready: Ready, ranks: int) -> int:
    """Weights, states and DeepSpeed's buffers of one of ``ranks`` processes."""
    plan = ready.plan
    trained = training(ready.outline, config.components, config.optimizer, plan.step_at)
    numbers = Numbers.of(trained, config.train.target(plan) - 1, taught=config.distill.is_on(0))
    way = Way(ready.zero.stage or 0, ready.zero.offload == "cpu")
    setting = Setting(
        ranks=ranks,
        precision=config.precision,
        accumulates=True,  # whatever is found, a step may hold several
        averages=config.optimizer.ema_decay > 0,
        on_cpu=ready.device == "cpu",
    )
    need = memory(numbers, way, setting, 0)
    return need.device + (need.host + need.copied if setting.on_cpu else 0)


def _found(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    import psutil

    return float(psutil.virtual_memory().available) / 2
