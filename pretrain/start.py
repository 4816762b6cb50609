"""From a checked configuration to an engine that stands where the run stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from pretrain.advice import advice
from pretrain.best import spent
from pretrain.checkpoint.restore import Restored, Resume, restore
from pretrain.component_table import describe
from pretrain.components import Training, training
from pretrain.config import Config
from pretrain.continuation import reasons, resume_points
from pretrain.distill import Teacher
from pretrain.engine import Engine
from pretrain.held_out import HeldOut
from pretrain.initial import check, teacher_of
from pretrain.peak import Peak, lacks_memory
from pretrain.preflight import Ready, continued
from pretrain.processes import Processes
from pretrain.validation import best_of
from pretrain.weights.bring import bring
from shards.errors import UserError
from shards.plan import MicroBatch, Plan
from shards.settings import write_resolved
from shards.stream import read_batch

Say = Callable[[str], None]
MOST_NAMED = 6
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class Course:
    """Where a run goes: its data, what trains, its first step, the step to stop after, the climbs
    of its rate, what it validates on, and the exact place of the weights that it began with.
    """

    plan: Plan
    training: Training
    start: int
    target: int
    resume_points: tuple[int, ...] = ()
    held_out: tuple[HeldOut, ...] = ()
    init_from: str | None = None

    @property
    def thaws(self) -> tuple[int, ...]:
        """The steps to come from which on more trains."""
        return self.training.changes(self.start, self.target)


def set_course(
    config: Config, ready: Ready, resume: Resume | None, init_from: str | None, say: Say
) -> Course:
    """The course of a new run, or of one that goes on from the checkpoint ``resume``.

    ``init_from`` is the exact place of the weights that a new run begins with.
    """
    if resume is None:
        plan = ready.plan
        trained, target = _training(config, ready, plan), config.train.target(plan)
        return Course(plan, trained, 0, target, (), ready.held_out, init_from)
    saved = resume.manifest.state
    plan, changes = continued(ready.plan, saved, resume.place, config.data)
    if changes:
        say(
            f"the data order changed after step {saved.step} ({'; '.join(changes)}): epoch "
            f"{plan.origin.epoch} begins again, as data.on_change=restart_epoch says; weights "
            "and optimizer are kept"
        )
    target = config.train.target(plan)
    why = reasons(saved, target, config.model_dump(mode="json"), changes)
    points, adds = resume_points(config.schedule, saved, why)
    if adds and target > saved.step:
        say(
            f"the learning rate climbs back in {config.schedule.resume_warmup} steps from step "
            f"{saved.step}: {'; '.join(why) or 'schedule.resume_warmup_on=restart'}"
        )
    trained = _training(config, ready, plan)
    begun = saved.init_from or init_from or config.init_from
    return Course(plan, trained, saved.step, target, points, ready.held_out, begun)


def _training(config: Config, ready: Ready, plan: Plan) -> Training:
    return training(ready.outline, config.components, config.optimizer, plan.step_at)


def ended(config: Config, course: Course, resume: Resume) -> str:
    """Why the run has nothing left to do, "" if it has."""
    if course.start >= course.target:
        return f"the target is {course.target}"
    best = best_of(resume, course.held_out)
    if spent(config.validation, best):
        return (
            f"where it ended as validation.stop_after={config.validation.stop_after} says (the "
            f"best was step {best.step}); raise that to go on"
        )
    return ""


def start_engine(
    config: Config,
    ready: Ready,
    course: Course,
    processes: Processes,
    resume: Resume | None,
    say: Say,
) -> tuple[Engine, Teacher | None]:
    """An engine with fresh or imported weights, or filled from the checkpoint ``resume``.

    Beside it the imported model, where the run is to stay near to it.
    """
    follows = config.distill.is_on(course.start)
    place = course.init_from if resume is None or follows else None
    initial = processes.each(lambda: bring(config, fresh_model(config), place)) if place else None
    teacher = teacher_of(config, initial, processes.device, DTYPES[config.precision])
    engine = tried_engine(config, ready, course, processes, teacher, say)
    if resume:
        told = restore(resume.store, resume.name, resume.manifest, engine.held())
        engine.restored(resume.manifest.state.updates)
        say_what_is_new(told, processes, say)
    elif initial:
        say_what_is_new(check(config, ready, engine, initial, say), processes, say)
    if processes.rank == 0:
        write_resolved(config, config.run.folder / "config.yaml")
    return engine, teacher


def fresh_model(config: Config) -> nn.Module:
    """The model as every run with this seed begins."""
    torch.manual_seed(config.seed)
    return config.model.build()


def tried_engine(
    config: Config,
    ready: Ready,
    course: Course,
    processes: Processes,
    teacher: Teacher | None,
    say: Say,
) -> Engine:
    """A fresh engine for the course's first step.

    The largest micro-batches have been run with all that will ever train on the course: that takes
    the most memory.
    """
    first, last = (course.training.groups(step) for step in (course.start, course.target - 1))
    engine = Engine(
        fresh_model(config),
        last,
        processes,
        optimizer=config.optimizer,
        zero=ready.zero,
        precision=config.precision,
        accumulation=ready.accumulation,
    )
    peak = try_costliest(config, course.plan, engine, teacher)
    say_what_fits(course.plan, processes, processes.largest(peak), say)
    if first != last:
        engine.release()
        engine.wrap(fresh_model(config), first)
    return engine


def announce(
    config: Config, course: Course, ready: Ready, engine: Engine, resume: Resume | None, say: Say
) -> None:
    """The lines with which a run begins; advice where it is a new one."""
    name = config.run.name
    if resume:
        say(f"resumed run {name} from {resume.place}: step {course.start} of {course.target} steps")
        if config.init_from and resume.place.startswith(config.checkpoints().place("")):
            say("init_from is ignored: the run has a checkpoint of its own")
    else:
        say(f"new run {name} in {config.run.folder}: {course.target} steps")
        for word in advice(config.train, course.plan, validates=bool(ready.held_out)):
            say(word)
    say_what_trains(course, course.start, engine, say)


def say_what_trains(course: Course, step: int, engine: Engine, say: Say) -> None:
    """Print what trains from ``step`` on, and what that takes."""
    say(describe(course.training, step))
    say(f"optimizer state on each process: {engine.state_bytes / 1e6:,.1f} MB")


def try_costliest(config: Config, plan: Plan, engine: Engine, teacher: Teacher | None) -> float:
    """Run the largest micro-batches once, so that a lack of memory shows now and not hours later.

    Their gradients have weight 0 and change nothing. Returns the most bytes held on a GPU, or by
    how many a process on a CPU grew. UserError names the bucket and the setting to lower; a rank
    that meets it alone leaves while others wait for it in their passes.
    """
    budget, device = config.batch.budget, engine.processes.device
    peak = Peak(device)
    for micro in plan.costliest():
        batch = read_batch(plan, config.model.fields(), micro, config.data)
        batch = batch.to(device)
        try:
            guide = teacher.guide(batch) if teacher else None
            engine.backward(engine.forward(batch, guide)["loss"].sum(), 0.0, last=False)
        except RuntimeError as error:
            if not lacks_memory(error):
                raise
            raise UserError(
                f"{budget.micro_option}={budget.micro:g} does not fit in this "
                f"device's memory: {described(plan, micro)}; lower it to what segue tune-batch "
                "finds, or leave long clips out with data.max_seconds"
            ) from error
    return peak.bytes if device.type == "cuda" else peak.growth


def described(plan: Plan, micro: MicroBatch) -> str:
    """A micro-batch in words."""
    seconds = plan.corpus.seconds(micro.rows)
    return (
        f"{len(seconds)} clips of up to {seconds.max():.1f} s "
        f"({len(seconds) * seconds.max():.0f} s padded; bucket {micro.bucket} of 0 to "
        f"{len(plan.census.buckets) - 1})"
    )


def say_what_fits(plan: Plan, processes: Processes, peak: float, say: Say) -> None:
    """Print what the largest micro-batches took, on the process where that was most."""
    tried = " and ".join(described(plan, micro) for micro in plan.costliest())
    if processes.device.type == "cuda":
        total = torch.cuda.get_device_properties(processes.device).total_memory
        took = f"{peak / 1e9:.2f} GB of {total / 1e9:.0f} GB on a GPU"
    else:
        took = f"{peak / 1e9:.2f} GB on a process"
    say(f"the largest micro-batches take {took}: {tried}")


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
