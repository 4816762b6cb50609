"""The training loop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pretrain.checkpoint.restore import Resume
from pretrain.checkpoint.saver import Saved
from pretrain.config import Config
from pretrain.distill import Teacher
from pretrain.engine import Engine, Processes
from pretrain.handover import thaw
from pretrain.initial import origin
from pretrain.intake import Intake, StepData
from pretrain.metrics.opening import metrics_of
from pretrain.metrics.record import StepRecord
from pretrain.metrics.recorder import Metrics
from pretrain.metrics.terminal import Terminal
from pretrain.models.protocol import Preview
from pretrain.pace import Pace
from pretrain.preflight import Ready
from pretrain.preview import Previewer
from pretrain.saving import Saving
from pretrain.schedule import rate_factor
from pretrain.start import (
    Course,
    Say,
    announce,
    ended,
    set_course,
    start_engine,
)
from pretrain.stop import INTERRUPTED, Asked, StopRequest
from pretrain.stopwatch import Stopwatch, stopwatch
from pretrain.tally import Seen
from pretrain.validation import Results, Validator
from pretrain.watch import Watch
from shards.ahead import on_device
from shards.collate import Batch
from shards.plan import StepPlan
from shards.stream import stream


@dataclass(frozen=True)
class Took:
    """The time of a step that ended as number ``step``: in all, of this rank's parts, by rank."""

    step: int
    seconds: float
    spent: Mapping[str, float]
    pace: Pace


def train(
    config: Config,
    ready: Ready,
    processes: Processes,
    stop: StopRequest,
    watch: Watch,
    say: Say,
) -> int:
    """Train to the target, or until asked to stop; resumes from the run's newest checkpoint.

    Returns the exit code, as `ending` has it.
    """
    name = config.run.name
    resume, place = origin(config, processes, say)
    course = processes.each(lambda: set_course(config, ready, resume, place, say))
    plan, start, target = course.plan, course.start, course.target
    if resume and (why := ended(config, course, resume)):
        stop.answered(stop.asked())
        say(f"resumed run {name} from {resume.place}: already at step {start}, {why}")
        return 0

    engine, teacher = start_engine(config, ready, course, processes, resume, say)
    announce(config, course, ready, engine, resume, say)
    validator = Validator(config, engine, ready.held_out, target, resume, watch.alive)
    previewer = Previewer(config, engine, course, watch.alive, say)
    intake = intake_of(config, ready, course, processes, resume)
    clock, skips, step, asked = stopwatch(processes.device), 0, start, Asked()
    terminal = Terminal(say, config.train.log_every, processes.gather(os.uname().nodename))
    with (
        metrics_of(config, course, processes, intake.tally, terminal) as metrics,
        Saving(
            config, engine, course, resume, intake.tally, watch, say, note_saved(metrics)
        ) as saving,
    ):
        show(metrics, start, validator.first(start), previewer.first(start))
        for step_plan in plan.steps(start, target):
            if step_plan.step in course.thaws:
                with watch.patient():
                    thaw(config, course, step_plan.step, engine, saving, say)
            clock.reset()
            data = intake.take()
            note_failures(metrics, step + 1, data)
            if data.mistake:
                break
            terms = accumulate(engine, teacher, data, config.seed, clock)
            rate = rate_at(config, course, step_plan.step)
            moved = update(engine, saving, rate, clock)
            clock.add("data", data.own_wait)
            asked, pace, means = reduced(
                processes, stop.asked(), clock.seconds("data", "forward"), terms, data.tokens
            )
            watch.stepped()
            step = step_plan.step + 1
            skips = 0 if moved else skips + 1
            if metrics:
                took = Took(step, clock.elapsed, clock.spent(), pace)
                metrics.write(record_of(course, step_plan, data, took, means, engine, rate, skips))
            refuse_skips(config, processes, data, step, skips)
            if not asked.to_stop:  # who is asked to stop may have seconds
                show(metrics, step, validator.after(step), previewer.after(step))
            saving.after(step, validator.figures(step), asked=asked.to_save)
            stop.saved(asked)
            if asked.to_stop or validator.spent:
                break
        saving.finish(step, validator.figures(step))
    if data.mistake:
        processes.fail(data.mistake)
    saving.refuse_loss(step)
    stop.answered(asked)
    code, words = ending(step, target, validator, asked)
    say(f"run {name} {words}")
    return code


def intake_of(
    config: Config, ready: Ready, course: Course, processes: Processes, resume: Resume | None
) -> Intake:
    """This rank's micro-batches of the whole course, on its device, step by step."""
    batches = stream(
        course.plan,
        config.model.fields(),
        range(course.start, course.target),
        rank=processes.rank,
        world_size=processes.world_size,
        config=config.data,
        pin_memory=ready.device == "cuda",
    )
    near = on_device(batches, processes.device, depth=ready.accumulation)
    seen = resume.manifest.state.seen if resume else Seen()
    return Intake(near, ready.accumulation, course, config.model, processes, seen)


def show(
    metrics: Metrics | None, step: int, results: Results | None, previews: Sequence[Preview]
) -> None:
    """Write down what came of a validation and of previews, if there were any."""
    if metrics and results:
        metrics.validated(step, results)
    if metrics and previews:
        metrics.previewed(step, previews)


def note_saved(metrics: Metrics | None) -> Callable[[Saved], None]:
    """What is to be done with each committed checkpoint."""
    return metrics.saved if metrics else lambda _: None


def note_failures(metrics: Metrics | None, step: int, data: StepData) -> None:
    """Write down the clips of a step that could not be read, if there are any."""
    if metrics and data.failures:
        metrics.failed(step, data.failures)


def accumulate(
    engine: Engine, teacher: Teacher | None, data: StepData, seed: int, clock: Stopwatch
) -> dict[str, Tensor]:
    """Forward and backward over one rank's batches of a step; the model's terms, summed.

    Every loss is divided by the step's targets over all ranks, so that neither accumulation nor
    padding nor the number of ranks changes the objective. ``clock`` times the passes; in backward
    ones a rank waits for others.
    """
    sums: dict[str, Tensor] = {}
    for batch in data.batches:
        torch.manual_seed(dropout_seed(seed, batch))
        with clock.running("forward"):
            terms = engine.forward(batch, teacher.guide(batch) if teacher else None)
        share = batch.weight / max(1, data.tokens)
        with clock.running("backward"):
            engine.backward(terms["loss"].sum(), share, last=batch is data.batches[-1])
        for name, term in terms.items():
            sums[name] = sums.get(name, 0) + term.detach().sum() * batch.weight
    return sums


def rate_at(config: Config, course: Course, step: int) -> float:
    """The learning rate of a step."""
    points = course.resume_points
    return config.optimizer.lr * rate_factor(config.schedule, step, course.target, points)


def update(engine: Engine, saving: Saving, rate: float, clock: Stopwatch) -> bool:
    """Move the weights, once none of them is still to be copied for a checkpoint; as
    `Engine.step`.
    """
    with clock.running("checkpoint"):
        saving.saver.wait_for_copy()
    with clock.running("optimizer"):
        return engine.step(rate)


def record_of(
    course: Course,
    step_plan: StepPlan,
    data: StepData,
    took: Took,
    means: Mapping[str, float],
    engine: Engine,
    rate: float,
    skips: int,
) -> StepRecord:
    """All that is told of a step; ``means`` are those of the model's terms."""
    plan = course.plan
    return StepRecord(
        step=took.step,
        target=course.target,
        time=round(time.time(), 3),
        epoch=plan.progress(took.step),
        loss=means["loss"],
        lr=rate,
        rates=engine.rates(rate),
        tokens=data.tokens,
        padding=data.padding,
        seconds=took.seconds,
        spent=took.spent,
        parts={name: mean for name, mean in means.items() if name != "loss"},
        gradient_norm=engine.gradient_norm,
        skipped=skips,
        clips=data.clips,
        audio_seconds=data.seconds,
        flops=data.flops,
        bucket=step_plan.bucket,
        pace=took.pace,
        balance=data.balance,
        failed_clips=len(data.failures),
        stage=step_plan.segment.limits.stage,
        admitted_buckets=len(step_plan.segment.admitted),
        withheld=plan.withheld(step_plan),
        gauges={},
    )


def reduced(
    processes: Processes, asked: Asked, busy: float, terms: Mapping[str, Tensor], tokens: int
) -> tuple[Asked, Pace, dict[str, float]]:
    """What any rank was asked for, all ranks' busy seconds, and the terms' means over the targets
    of all ranks.
    """
    by_rank = np.zeros(processes.world_size)
    by_rank[processes.rank] = busy
    known = np.concatenate([np.array(asked, np.float64), by_rank])
    sums = processes.sum(known, list(terms.values()))
    anywhere, seconds, totals = (
        sums[: len(asked)],
        sums[len(asked) : len(known)],
        sums[len(known) :],
    )
    means = {name: total / max(1, tokens) for name, total in zip(terms, totals, strict=True)}
    return Asked(*map(bool, anywhere)), Pace(np.array(seconds)), means


def dropout_seed(seed: int, batch: Batch) -> int:
    """The same dropout for a micro-batch on whatever rank and after whatever restart."""
    words = np.random.SeedSequence([seed, batch.step, batch.index]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def ending(step: int, target: int, validator: Validator, asked: Asked) -> tuple[int, str]:
    """The exit code and the last line of a run: `INTERRUPTED` where a signal alone cut it short."""
    if step >= target:
        return 0, f"is at step {step}, its target"
    if validator.spent:
        return 0, (
            f"stopped at step {step}: validation was best at step {validator.best.step} "
            f"(loss {validator.best.loss:.4f}), {validator.best.since} validations ago"
        )
    if asked.interrupts:
        return INTERRUPTED, f"was stopped at step {step} by a signal; the same command resumes it"
    return 0, f"stopped at step {step} as asked; the same command resumes it"


def refuse_skips(
    config: Config, processes: Processes, data: StepData, step: int, skips: int
) -> None:
    """End a run that no longer makes progress with a UserError, on all ranks alike."""
    if skips < config.train.max_skips:
        return
    keys = ", ".join([key for batch in data.batches for key in batch.keys][:8])
    processes.fail(
        f"the gradient was not finite in {skips} steps in a row, the last one step {step} with "
        f"clips {keys}, ...; lower optimizer.lr or leave them out (the last checkpoint is intact)"
    )
