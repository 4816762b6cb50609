"""Checkpoints as Seed-VC's v1 trainer leaves them: weights, and what its optimizers keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.checkpoint.manifest import MOMENTS
from pretrain.groups import OptimizerConfig
from pretrain.models.seed_vc.upstream import GAMMA, OPTIMIZER
from pretrain.weights.found import OptimizerState, Weights
from pretrain.weights.seed_vc_release import COMPONENTS, net_of, outlined, write
from shards.errors import UserError


def export(weights: Weights, out: Path, dtype: str) -> Path:
    """Write a training file, and name it: in the folder ``out`` as upstream names its own.

    The rate is upstream's at this step, from the run's peak on. UserError for another model's
    weights, and where no state of an optimizer lies beside them.
    """
    if weights.optimizer is None:
        raise UserError(
            f"--to seed-vc-training: {weights.place} holds no state of an optimizer; write "
            "--to seed-vc"
        )
    step, epoch = weights.step or 0, int(weights.epoch or 0)
    model, settings = outlined(weights), _settings(weights)
    optimizers, schedulers = [], []
    for part in COMPONENTS:
        component: Any = getattr(model, part)
        names = [f"{part}.{name}" for name, _ in component.named_parameters()]
        adam, schedule = _states(component, settings, step)
        adam["state"] = _moments(names, weights.optimizer)
        optimizers.append((part, adam))
        schedulers.append((part, schedule))
    saved = {
        "net": net_of(weights, dtype),
        "optimizer": optimizers,
        "scheduler": schedulers,
        "iters": step,
        "epoch": epoch,
    }
    return write(saved, out / f"DiT_epoch_{epoch:05d}_step_{step:05d}.pth" if out.is_dir() else out)


def _settings(weights: Weights) -> OptimizerConfig:
    """The run's own, or those of upstream's trainer where the weights are not a run's."""
    recorded = weights.config.get("optimizer")
    return OptimizerConfig.model_validate(OPTIMIZER if recorded is None else recorded)


def _states(
    component: nn.Module, settings: OptimizerConfig, step: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """States of an AdamW without moments, and of its schedule, after ``step`` steps."""
    adam = torch.optim.AdamW(
        component.parameters(),
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.ExponentialLR(adam, GAMMA)
    rate = settings.lr * GAMMA**step
    adam.param_groups[0]["lr"] = rate
    told = schedule.state_dict() | {"last_epoch": step, "_step_count": step + 1, "_last_lr": [rate]}
    return adam.state_dict(), told


def _moments(names: list[str], optimizer: OptimizerState) -> dict[int, dict[str, Tensor]]:
    """By a parameter's place; one without moments has no state, as torch leaves those unused."""
    return {
        place: {
            "step": torch.tensor(float(optimizer.updates)),
            **{key: optimizer.states[key][name] for key in MOMENTS},
        }
        for place, name in enumerate(names)
        if all(name in optimizer.states[key] for key in MOMENTS)
    }
