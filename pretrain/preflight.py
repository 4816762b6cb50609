"""What must hold before a run starts; the launcher and every rank ask the same questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pretrain.checkpoint import newest_first, read_manifest, refuse_other_shapes
from pretrain.config import Config
from pretrain.zero import DeepSpeedConfig, settle
from shards.dataset import open_plan
from shards.errors import UserError
from shards.plan import Plan, changed_settings


@dataclass(frozen=True)
class Ready:
    """A run that can start: its plan, its target step and how ZeRO is set."""

    plan: Plan
    target: int
    zero: DeepSpeedConfig
    device: str
    accumulation: int


def check(config: Config, *, world_size: int, device: str, environ: Mapping[str, str]) -> Ready:
    """UserError for anything that would stop the run before its first step.

    ``device``: what the processes will train on, see `choose_device`; it is not looked for here,
    so that a login node can check a run that needs GPUs.
    """
    zero = settle(config.deepspeed, environ)
    plan = open_plan(config.data, config.batch, config.seed)
    config.model.check(plan.index)
    _refuse_uneven_ranks(plan.micro_batches, world_size)
    _refuse_another_run(config, plan.fingerprint)
    return Ready(
        plan=plan,
        target=config.train.target(plan.steps_per_epoch),
        zero=zero,
        device=device,
        accumulation=plan.micro_batches // world_size,
    )


def choose_device(wanted: str, local_size: int) -> str:
    """``cpu`` or ``cuda`` for ``local_size`` processes on this machine.

    UserError where the GPUs asked for are not there.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "cpu" or (wanted == "auto" and found == 0):
        return "cpu"
    if found == 0:
        raise UserError(
            "device=cuda but torch sees no CUDA device on this machine; use device=cpu, or "
            "device=auto to take what is there"
        )
    if local_size > found:
        raise UserError(
            f"{local_size} processes on this machine but torch sees {found} CUDA device(s); "
            f"start {found} or use device=cpu"
        )
    return "cuda"


def _refuse_uneven_ranks(micro_batches: int, world_size: int) -> None:
    if micro_batches % world_size:
        fitting = [str(n) for n in range(1, micro_batches + 1) if micro_batches % n == 0]
        raise UserError(
            f"{world_size} processes do not divide the {micro_batches} micro-batches of a step "
            f"(batch.seconds / batch.micro_seconds); start {', '.join(fitting)} or change "
            "batch.seconds"
        )


def _refuse_another_run(config: Config, fingerprint: dict[str, Any]) -> None:
    root = config.run.folder / "checkpoints"
    for folder in newest_first(root):
        try:
            saved = read_manifest(folder)
        except ValueError:
            continue  # the run itself says loudly which ones it skips
        changes = changed_settings(saved.fingerprint, fingerprint)
        if changes:
            raise UserError(
                f"{folder} was trained in another data order: {'; '.join(changes)}; set it back "
                "or choose another run.name"
            )
        refuse_other_shapes(folder, saved, _shapes(config))
        return


def _shapes(config: Config) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = config.model.build()
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
