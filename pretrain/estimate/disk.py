"""What checkpoints will take on disk."""

from __future__ import annotations

from dataclasses import dataclass

from pretrain.checkpoint.keep import CheckpointConfig, Saved, due, kept
from shards.plan import Plan


@dataclass(frozen=True)
class Disk:
    """Bytes of a checkpoint, how many are saved and how many are kept at the end."""

    checkpoint: int
    saved: int
    kept: int

    @property
    def most(self) -> int:
        """Bytes at most: those kept, and one that is written before another goes."""
        return self.checkpoint * min(self.saved, self.kept + 1)


def disk(config: CheckpointConfig, plan: Plan, target: int, size: int, *, validates: bool) -> Disk:
    """Checkpoints of ``size`` bytes up to the step ``target``, as the run keeps them.

    Of a run that validates the best is counted beside the others.
    """
    by_epochs = config.keep_every_epochs is not None
    saved = []
    for step in _candidates(config, plan, target):
        before, epoch = (plan.progress(one) if by_epochs else 0.0 for one in (step - 1, step))
        if step == target or due(config, step, epoch, before):
            saved.append(Saved(f"{step:012d}", step, epoch))
    best = 1 if config.keep_best and validates else 0
    found = len(kept(config, saved))
    return Disk(size, len(saved), min(len(saved), found + best))


def _candidates(config: CheckpointConfig, plan: Plan, target: int) -> list[int]:
    """Every step after which `due` may hold, and the last one."""
    steps = {target}
    for every in (config.every, config.keep_every_steps):
        steps |= set(range(every, target + 1, every)) if every else set()
    if config.keep_every_epochs:
        windows = int(plan.progress(target) / config.keep_every_epochs)
        ends = (plan.step_at(config.keep_every_epochs * n) for n in range(1, windows + 1))
        steps |= {near for end in ends for near in (end - 1, end, end + 1) if 0 < near <= target}
    return sorted(steps)
