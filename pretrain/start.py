"""From a checked configuration to an engine that stands where the run stopped."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

from pretrain import checkpoint
from pretrain.checkpoint import Manifest
from pretrain.config import Config, write_resolved
from pretrain.engine import Engine, Processes
from pretrain.groups import parameter_groups
from pretrain.preflight import Ready, continued
from shards.errors import UserError
from shards.plan import Plan
from shards.stream import read_batch

Say = Callable[[str], None]
LIBRARIES = ("torch", "accelerate", "deepspeed")


def newest_checkpoint(root: Path, processes: Processes, say: Say) -> tuple[Path, Manifest] | None:
    """The checkpoint to resume from. Rank 0 reads and checks, all ranks get the same answer."""
    return processes.first(lambda: checkpoint.newest_valid(root, say))


def resumed_plan(
    config: Config, plan: Plan, resume: tuple[Path, Manifest] | None, say: Say
) -> tuple[Plan, int]:
    """The plan as the run goes on with it, and the first step to take."""
    if resume is None:
        return plan, 0
    folder, saved = resume
    plan, changes = continued(plan, saved, folder, config.data)
    if changes:
        say(
            f"the data order changed after step {saved.step} ({'; '.join(changes)}): epoch "
            f"{plan.origin.epoch} begins again, as data.on_change=restart_epoch says; weights "
            "and optimizer are kept"
        )
    return plan, saved.step


def start_engine(
    config: Config, ready: Ready, processes: Processes, resume: tuple[Path, Manifest] | None
) -> Engine:
    """A freshly initialised engine, or one filled from the checkpoint ``resume``."""
    torch.manual_seed(config.seed)
    model = config.model.build()
    named = [(name, parameter.ndim) for name, parameter in model.named_parameters()]
    engine = Engine(
        model,
        parameter_groups(named, config.optimizer),
        processes,
        optimizer=config.optimizer,
        zero=ready.zero,
        precision=config.precision,
        accumulation=ready.accumulation,
    )
    if resume:
        folder, manifest = resume
        checkpoint.restore(folder, manifest, engine.fragments())
        engine.restored(manifest.updates)
    if processes.rank == 0:
        write_resolved(config, config.run.folder / "config.yaml")
    return engine


def try_costliest(config: Config, plan: Plan, engine: Engine, processes: Processes) -> None:
    """Run the largest micro-batches once, so that a lack of memory shows now and not hours later.

    Their gradients have weight 0 and change nothing. UserError names the setting to lower.
    """
    budget = config.batch.budget
    for micro in plan.costliest():
        batch = read_batch(plan, config.model.fields(), micro, config.data).to(processes.device)
        try:
            engine.backward(engine.forward(batch)["loss"], 0.0, last=False)
        except torch.OutOfMemoryError as error:
            longest = plan.corpus.seconds(micro.rows).max()
            raise UserError(
                f"{budget.micro_option}={budget.micro:g} does not fit in this "
                f"device's memory: {len(micro.rows)} clips of up to {longest:.1f} s; lower it, "
                "or leave long clips out with data.max_seconds"
            ) from error


def save_checkpoint(
    config: Config, engine: Engine, processes: Processes, plan: Plan, step: int
) -> None:
    """Commit a checkpoint after ``step`` steps, then prune older ones."""
    root = config.run.folder / "checkpoints"
    state = checkpoint.State(
        step=step,
        epoch=plan.progress(step),
        updates=engine.updates,
        fingerprint=plan.fingerprint,
        origin=plan.origin,
        shapes=engine.shapes,
        versions={name: version(name) for name in LIBRARIES},
    )
    checkpoint.save(root, engine.fragments(), state, processes)
    if processes.rank == 0:
        checkpoint.prune(root, config.train.keep_last)
