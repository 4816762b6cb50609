"""The training loop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from pretrain.checkpoint.keep import next_due
from pretrain.checkpoint.restore import Resume
from pretrain.checkpoint.saver import Saved
from pretrain.config import Config
from pretrain.distill import Teacher
from pretrain.engine import Engine, Processes
from pretrain.handover import thaw
from pretrain.initial import origin
from pretrain.intake import Intake, StepData
from pretrain.metrics.opening import metrics_of
from pretrain.metrics.progress import DRAWN
from pretrain.metrics.record import StepRecord
from pretrain.metrics.recorder import Metrics
from pretrain.metrics.terminal import Terminal
from pretrain.models.protocol import Preview
from pretrain.pace import Pace
from pretrain.preflight import Ready
from pretrain.preview import Previewer
from pretrain.profiling import Profiling
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
from pretrain.updating import Updating, refuse_skips
from pretrain.validation import Results, Validator
from pretrain.watch import Watch
from shards.ahead import on_device
from shards.collate import Batch
from shards.plan import StepPlan
from shards.stream import stream


@dataclass(frozen=True)
class Took:
    """The time of a step that ended as number ``step``: in all, of this rank's parts, by rank.

    ``pace`` is that of the step before: it is known by then without a wait for the device.
    """

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
    updating = Updating(config, engine, ready.outline, resume, say)
    intake = intake_of(config, ready, course, processes, resume)
    clock, step, asked = stopwatch(processes.device), start, Asked()
    profiling = Profiling(config, processes, watch, say)
    terminal = terminal_of(config, course, processes, say)
    with (
        metrics_of(config, course, processes, intake.tally, terminal) as metrics,
        Saving(
            config, updating, course, resume, intake.tally, watch, say, note_saved(metrics)
        ) as saving,
    ):
        show(metrics, start, validator.first(start), previewer.first(start))
        for step_plan in profiling.over(plan.steps(start, target)):
            if step_plan.step in course.thaws:
                with watch.patient():
                    thaw(config, course, step_plan.step, engine, saving, say)
            clock.reset()
            data = intake.take()
            note_failures(metrics, step + 1, data)
            if data.mistake:
                break
            terms = accumulate(engine, teacher, data, config.seed, clock)
            step = step_plan.step + 1
            found = update(config, course, updating, saving, step, terms["loss"], data, clock)
            asked, pace, means, sums = reduced(
                processes, stop.asked(), clock.before("data", "forward"), terms, data.tokens, found
            )
            updating.learned(step, means["loss"], sums)
            watch.stepped()
            profiling.stepped(step)
            if metrics:
                metrics.write(
                    record_of(
                        course,
                        step_plan,
                        data,
                        Took(step, clock.elapsed, clock.spent(), pace),
                        means,
                        updating,
                    )
                )
            refuse_skips(config, step_plan, updating, data)
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


def terminal_of(config: Config, course: Course, processes: Processes, say: Say) -> Terminal:
    """What tells people of the run; all ranks call it together."""
    plan, checkpoint = course.plan, config.checkpoint
    return Terminal(
        say,
        config.train.log_every,
        processes.gather(os.uname().nodename),
        unit=config.model.unit,
        next_save=lambda step: next_due(checkpoint, step, plan.progress(step), plan.step_at),
        drawn=DRAWN in os.environ,
    )


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
    padding nor the number of ranks changes the objective. ``clock`` times the passes, beside the
    wait for ``data``; in backward passes a rank waits for others.
    """
    clock.add("data", data.own_wait)
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


def update(
    config: Config,
    course: Course,
    updating: Updating,
    saving: Saving,
    step: int,
    loss: Tensor,
    data: StepData,
    clock: Stopwatch,
) -> dict[str, Tensor]:
    """`Updating.update`, once no weight is still to be copied for a checkpoint."""
    with clock.running("checkpoint"):
        saving.saver.wait_for_copy()
    with clock.running("optimizer"):
        return updating.update(step, rate_at(config, course, step - 1), loss, data.tokens)


def record_of(
    course: Course,
    step_plan: StepPlan,
    data: StepData,
    took: Took,
    means: Mapping[str, float],
    updating: Updating,
) -> StepRecord:
    """All that is told of a step; ``means`` are those of the model's terms."""
    plan = course.plan
    return StepRecord(
        step=took.step,
        target=course.target,
        start=course.start,
        processes=updating.engine.processes.world_size,
        time=round(time.time(), 3),
        epoch=plan.progress(took.step),
        loss=means["loss"],
        lr=updating.rate,
        rates=updating.rates,
        tokens=data.tokens,
        padding=data.padding,
        seconds=took.seconds,
        spent=took.spent,
        waited=data.waited,
        parts={name: mean for name, mean in means.items() if name != "loss"},
        gradient_norm=updating.gradient_norm,
        skipped=updating.health.skipped,
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
        gauges=updating.gauges,
    )


def reduced(
    processes: Processes,
    asked: Asked,
    busy: float,
    terms: Mapping[str, Tensor],
    tokens: int,
    found: Mapping[str, Tensor],
) -> tuple[Asked, Pace, dict[str, float], dict[str, float]]:
    """What any rank was asked for, all ranks' ``busy`` seconds, the terms' means over the targets
    of all ranks, and the sums over ranks of what the update has ``found``.
    """
    known = np.concatenate([np.array(asked, np.float64), processes.by_rank(busy)])
    sums = iter(processes.sum(known, [*terms.values(), *found.values()]))
    anywhere = Asked(*map(bool, islice(sums, len(asked))))
    pace = Pace(np.array(list(islice(sums, processes.world_size))))
    means = {name: next(sums) / max(1, tokens) for name in terms}
    return anywhere, pace, means, dict(zip(found, sums, strict=True))


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
