"""From a checked configuration to an engine that stands where the run stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from pretrain.checkpoint.restore import Restored, Resume, restore
from pretrain.component_table import describe
from pretrain.components import Training
from pretrain.config import Config, write_resolved
from pretrain.engine import Engine, Processes
from pretrain.groups import Group
from pretrain.handover import hand_over
from pretrain.preflight import Ready, continued
from shards.errors import UserError
from shards.plan import Plan
from shards.stream import read_batch

Say = Callable[[str], None]
MOST_NAMED = 6


def resumed_plan(config: Config, plan: Plan, resume: Resume | None, say: Say) -> tuple[Plan, int]:
    """The plan as the run goes on with it, and the first step to take."""
    if resume is None:
        return plan, 0
    saved = resume.manifest.state
    plan, changes = continued(plan, saved, resume.place, config.data)
    if changes:
        say(
            f"the data order changed after step {saved.step} ({'; '.join(changes)}): epoch "
            f"{plan.origin.epoch} begins again, as data.on_change=restart_epoch says; weights "
            "and optimizer are kept"
        )
    return plan, saved.step


def start_engine(
    config: Config, ready: Ready, groups: Sequence[Group], processes: Processes
) -> Engine:
    """A freshly initialised engine that trains ``groups``."""
    torch.manual_seed(config.seed)
    return Engine(
        config.model.build(),
        groups,
        processes,
        optimizer=config.optimizer,
        zero=ready.zero,
        precision=config.precision,
        accumulation=ready.accumulation,
    )


def resumed_engine(
    config: Config,
    ready: Ready,
    training: Training,
    processes: Processes,
    resume: Resume | None,
    say: Say,
) -> Engine:
    """The engine for the run's next step, filled from the checkpoint ``resume`` if there is one."""
    step = resume.manifest.state.step if resume else 0
    engine = start_engine(config, ready, training.groups(step), processes)
    if resume:
        told = restore(resume.store, resume.name, resume.manifest, engine.held())
        engine.restored(resume.manifest.state.updates)
        say_what_is_new(told, processes, say)
    if processes.rank == 0:
        write_resolved(config, config.run.folder / "config.yaml")
    say_what_trains(training, step, engine, say)
    return engine


def thawed_engine(
    config: Config, ready: Ready, training: Training, step: int, engine: Engine, say: Say
) -> Engine:
    """The engine for ``step``, which trains more than ``engine`` does and goes on from it."""
    groups, processes = training.groups(step), engine.processes
    thawed = hand_over(engine, lambda: start_engine(config, ready, groups, processes))
    say_what_trains(training, step, thawed, say)
    return thawed


def say_what_trains(training: Training, step: int, engine: Engine, say: Say) -> None:
    """Print what trains from ``step`` on, and what that takes."""
    say(describe(training, step))
    say(f"optimizer state on each process: {engine.state_bytes / 1e6:,.1f} MB")


def try_costliest(config: Config, plan: Plan, engine: Engine) -> None:
    """Run the largest micro-batches once, so that a lack of memory shows now and not hours later.

    Their gradients have weight 0 and change nothing. UserError names the setting to lower.
    """
    budget = config.batch.budget
    for micro in plan.costliest():
        batch = read_batch(plan, config.model.fields(), micro, config.data)
        try:
            terms = engine.forward(batch.to(engine.processes.device))
            engine.backward(terms["loss"], 0.0, last=False)
        except torch.OutOfMemoryError as error:
            longest = plan.corpus.seconds(micro.rows).max()
            raise UserError(
                f"{budget.micro_option}={budget.micro:g} does not fit in this "
                f"device's memory: {len(micro.rows)} clips of up to {longest:.1f} s; lower it, "
                "or leave long clips out with data.max_seconds"
            ) from error


def say_what_is_new(told: Restored, processes: Processes, say: Say) -> None:
    """Name the parameters whose moments or averages the checkpoint did not have."""
    everywhere = processes.gather(told)
    for what, names in (
        ("train now and did not before; their moments begin at zero", "new_moments"),
        ("had no average before; it begins at the weights", "new_averages"),
    ):
        found = sorted(set().union(*(getattr(one, names) for one in everywhere)))
        if found:
            some = ", ".join(found[:MOST_NAMED]) + (", ..." if len(found) > MOST_NAMED else "")
            say(f"{len(found)} parameters {what}: {some}")
