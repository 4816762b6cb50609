"""What must hold before a run starts; the launcher and every rank ask the same questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pretrain.checkpoint.location import opened
from pretrain.checkpoint.manifest import Manifest, State, refuse_other_shapes
from pretrain.checkpoint.store import newest
from pretrain.components import training
from pretrain.config import Config
from pretrain.held_out import OWN, HeldOut, held_out
from pretrain.metrics.trackers import refuse_unknown
from pretrain.models.outline import Outline, outline
from pretrain.weights.bring import bring
from pretrain.zero import DeepSpeedConfig, refuse_precision, settle
from shards.dataset import DataConfig, open_plan, refuse_damaged_shards
from shards.errors import UserError
from shards.plan import BatchConfig, Origin, Plan, changed_settings


@dataclass(frozen=True)
class Ready:
    """A run that can start: its plan from step 0, its model's outline, what it validates on, and
    how ZeRO is set.
    """

    plan: Plan
    outline: Outline
    held_out: tuple[HeldOut, ...]
    zero: DeepSpeedConfig
    device: str
    accumulation: int


def check(config: Config, *, world_size: int, device: str, environ: Mapping[str, str]) -> Ready:
    """UserError for anything that would stop the run before its first step.

    ``device``: what the processes will train on, see `choose_device`; it is not looked for here,
    so that a login node can check a run that needs GPUs.
    """
    zero = settle(config.deepspeed, environ)
    refuse_precision(zero, config.precision)
    refuse_unknown(config.trackers)
    plan = open_plan(config.data, config.batch, config.seed)
    if environ.get("RANK", "0") == "0" and config.data.on_error == "stop":
        refuse_damaged_shards(plan.corpus)
    config.model.check(plan.census)
    _refuse_late_profile(config, config.train.target(plan))
    model = outline(config.model)
    training(model, config.components, config.optimizer, plan.step_at)
    _refuse_uneven_ranks(config.batch, world_size)
    is_new = not _goes_on(config, plan, model)
    if config.distill.weight and config.init_from is None:
        raise UserError(
            "distill.weight needs a model to follow; name its weights with init_from=PATH"
        )
    if "RANK" not in environ and (is_new or config.distill.weight):  # ranks find out themselves
        _try_import(config, plan, model, is_new=is_new)
    return Ready(
        plan=plan,
        outline=model,
        held_out=_held_out(config),
        zero=zero,
        device=device,
        accumulation=plan.micro_batches // world_size,
    )


def _try_import(config: Config, plan: Plan, model: Outline, *, is_new: bool) -> None:
    """UserError where what ``init_from`` names does not fit the run."""
    if config.init_from is None:
        return
    bring(config, config.model.build(), config.init_from)
    if config.init_level == "all" and is_new:
        store, name, manifest = opened(config.init_from)
        continued(plan, manifest.state, store.place(name), config.data)
        refuse_other_shapes(store.place(name), manifest, model.shapes)


def _refuse_late_profile(config: Config, target: int) -> None:
    if config.profile.steps and config.profile.steps[1] > target:
        first, last = config.profile.steps
        raise UserError(
            f"profile.steps=[{first},{last}]: the run ends at step {target}; name steps up to that"
        )


def _held_out(config: Config) -> tuple[HeldOut, ...]:
    sets = held_out(config.validation, config.data, config.batch, config.seed)
    for one in sets:
        config.model.check(one.plan.census)
    if config.validation.stop_after and not any(one.name == OWN for one in sets):
        given = f"validation.stop_after={config.validation.stop_after}"
        why = "validation.every is 0" if config.validation.every == 0 else "no clips are set apart"
        raise UserError(
            f"{given} but {why}; pack with validation=0.01 and let it validate, or leave it out"
        )
    return sets


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


def _refuse_uneven_ranks(batch: BatchConfig, world_size: int) -> None:
    micro_batches, budget = batch.micro_batches, batch.budget
    if micro_batches % world_size:
        fitting = [str(n) for n in range(1, micro_batches + 1) if micro_batches % n == 0]
        raise UserError(
            f"{world_size} processes do not divide the {micro_batches} micro-batches of a step "
            f"({budget.step_option} / {budget.micro_option}); start {', '.join(fitting)} or "
            f"change {budget.step_option}"
        )


def continued(plan: Plan, saved: State, place: str, data: DataConfig) -> tuple[Plan, list[str]]:
    """The plan as a checkpoint goes on with it, and what differs from the one it was made with.

    UserError where something does and ``data.on_change`` does not say what to do then.
    """
    changes = changed_settings(saved.fingerprint, plan.fingerprint)
    if not changes:
        return plan.begun_at(saved.origin), []
    if data.on_change == "refuse":
        raise UserError(
            f"{place} was trained in another data order: {'; '.join(changes)}; set it back, "
            "choose another run.name, or go on at the beginning of the epoch with "
            "data.on_change=restart_epoch"
        )
    return plan.begun_at(Origin(saved.step, int(saved.epoch))), changes


def _goes_on(config: Config, plan: Plan, model: Outline) -> bool:
    """Whether the run has a checkpoint; UserError where that is of another plan or model."""
    store = config.checkpoints()
    for name, saved in newest(store):
        if isinstance(saved, Manifest):  # the run itself says loudly which ones it skips
            continued(plan, saved.state, store.place(name), config.data)
            refuse_other_shapes(store.place(name), saved, model.shapes)
            return True
    return False
