"""The training loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from pretrain.checkpoint.keep import next_due
from pretrain.checkpoint.restore import Resume
from pretrain.checkpoint.saver import Saved
from pretrain.config import Config
from pretrain.handover import thaw
from pretrain.initial import origin
from pretrain.intake import Intake, StepData
from pretrain.metrics.opening import metrics_of
from pretrain.metrics.progress import DRAWN
from pretrain.metrics.recorder import Metrics
from pretrain.metrics.telling import Took, record_of
from pretrain.metrics.terminal import Terminal
from pretrain.models.protocol import Preview
from pretrain.preflight import Ready
from pretrain.preview import Previewer
from pretrain.processes import Processes
from pretrain.profiling import Profiling
from pretrain.saving import Saving
from pretrain.start import (
    Course,
    Say,
    announce,
    ended,
    set_course,
    start_engine,
)
from pretrain.step import accumulate, reduced, update
from pretrain.stop import INTERRUPTED, Asked, StopRequest
from pretrain.stopwatch import stopwatch
from pretrain.tally import Seen
from pretrain.updating import Updating, refuse_skips
from pretrain.validation import Results, Validator
from pretrain.watch import Watch
from shards.ahead import on_device
from shards.stream import stream

AHEAD = 2
"""Micro-batches that are copied to the device before the step that needs them."""


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
    profiling = Profiling(config, processes, start, watch, say)
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
    near = on_device(batches, processes.device, depth=min(AHEAD, ready.accumulation))
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
