"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pretrain.config import Config
from pretrain.engine import Engine, Processes
from pretrain.metrics import Metrics, StepRecord, line
from pretrain.preflight import Ready
from pretrain.schedule import rate_factor
from pretrain.start import Say, newest_checkpoint, save_checkpoint, start_engine, try_costliest
from pretrain.stop import StopRequest
from shards.collate import Batch
from shards.plan import MicroBatch, Plan, StepPlan
from shards.stream import stream


@dataclass(frozen=True)
class Tally:
    """One rank's sums over its micro-batches of a step: the model's terms, and time for data."""

    terms: dict[str, Tensor]
    data_seconds: float


def train(config: Config, ready: Ready, processes: Processes, stop: StopRequest, say: Say) -> None:
    """Train to the target, or until asked to stop; resumes from the run's newest checkpoint."""
    plan, target, name = ready.plan, ready.target, config.run.name
    resume = newest_checkpoint(config.run.folder / "checkpoints", processes, say)
    start = resume[1].step if resume else 0
    if resume and start >= target:
        stop.answered()
        say(f"resumed run {name} from {resume[0]}: already at step {start}, the target is {target}")
        return

    engine = start_engine(config, ready, processes, resume)
    if resume:
        say(f"resumed run {name} from {resume[0]}: step {start} of {target}")
    else:
        say(f"new run {name} in {config.run.folder}: {target} steps")
    try_costliest(config, plan, engine, processes)
    batches = stream(
        plan,
        config.model.fields(),
        range(start, target),
        rank=processes.rank,
        world_size=processes.world_size,
        config=config.data,
        pin_memory=ready.device == "cuda",
    )
    is_first, skips, step = processes.rank == 0, 0, start

    with Metrics(config.run.folder, start) if is_first else nullcontext() as metrics:
        for step_plan in plan.steps(start, target):
            began = time.perf_counter()
            mine = step_plan.of_rank(processes.rank, processes.world_size)
            tokens = config.model.targets(plan.index, step_plan.rows)
            tally = accumulate(engine, batches, mine, tokens, config.seed)
            rate = config.optimizer.lr * rate_factor(config.schedule, step_plan.step, target)
            moved = engine.step(rate)
            waited, stopping, *totals = processes.sum(
                [tally.data_seconds, bool(stop), *tally.terms.values()]
            )
            means = {name: total / tokens for name, total in zip(tally.terms, totals, strict=True)}
            step = step_plan.step + 1
            skips = 0 if moved else skips + 1
            if metrics:
                record = StepRecord(
                    step=step,
                    epoch=step / plan.steps_per_epoch,
                    loss=means.pop("loss"),
                    lr=rate,
                    tokens=tokens,
                    padding=plan.padding(step_plan),
                    seconds=time.perf_counter() - began,
                    parts=means,
                    gradient_norm=engine.gradient_norm,
                    skipped=skips,
                    clips=len(step_plan.rows),
                    audio_seconds=float(plan.index.seconds[step_plan.rows].sum()),
                    bucket=step_plan.bucket,
                    data_seconds=waited / processes.world_size,
                )
                metrics.write(record)
                if step % config.train.log_every == 0 or step == target:
                    say(line(record, target))
            if skips >= config.train.max_skips:
                processes.fail(describe_skips(plan, step_plan, skips))
            if step % config.train.save_every == 0 or step == target or stopping:
                save_checkpoint(config, engine, processes, plan, step)
            if stopping:
                break
    stop.answered()
    if step < target:
        say(f"run {name} stopped at step {step} as asked; the same command resumes it")
    else:
        say(f"run {name} is at step {step}, its target")


def accumulate(
    engine: Engine,
    batches: Iterator[Batch],
    micro_batches: tuple[MicroBatch, ...],
    tokens: int,
    seed: int,
) -> Tally:
    """Forward and backward over one rank's micro-batches of a step.

    Every loss is divided by ``tokens``, the step's targets over all ranks, so that neither
    accumulation nor padding nor the number of ranks changes the objective.
    """
    device = engine.processes.device
    sums: dict[str, Tensor] = {}
    waited = 0.0
    for micro in micro_batches:
        asked = time.perf_counter()
        batch = next(batches).to(device)
        waited += time.perf_counter() - asked
        torch.manual_seed(dropout_seed(seed, micro))
        terms = engine.forward(batch)
        engine.backward(terms["loss"], batch.weight / tokens, last=micro is micro_batches[-1])
        for name, term in terms.items():
            sums[name] = sums.get(name, torch.zeros_like(term)) + term.detach() * batch.weight
    return Tally(sums, waited)


def dropout_seed(seed: int, micro: MicroBatch) -> int:
    """The same dropout for a micro-batch on whatever rank and after whatever restart."""
    words = np.random.SeedSequence([seed, micro.step, micro.index]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def describe_skips(plan: Plan, step_plan: StepPlan, skips: int) -> str:
    """The message of a run that no longer makes progress."""
    keys = ", ".join(plan.index.key(int(row)) for row in step_plan.rows[:8])
    return (
        f"the gradient was not finite in {skips} steps in a row, the last one step "
        f"{step_plan.step + 1} with clips {keys}, ...; lower optimizer.lr or leave them out (the "
        "last checkpoint is intact)"
    )
