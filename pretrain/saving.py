"""When and what a run saves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version

from pretrain.checkpoint.keep import due
from pretrain.checkpoint.manifest import State
from pretrain.checkpoint.restore import Resume
from pretrain.checkpoint.saver import Saved, Saver
from pretrain.config import Config
from pretrain.held_out import own_digest
from pretrain.start import Course, Say
from pretrain.tally import Tally
from pretrain.updating import Updating
from pretrain.watch import Watch

LAST_SECONDS = 60.0
"""What a process that ends on an error gives the save under way."""
LIBRARIES = ("torch", "accelerate", "deepspeed")


class Saving:
    """A run's checkpoints on its ``course``. All ranks call every method together."""

    def __init__(
        self,
        config: Config,
        updating: Updating,
        course: Course,
        resume: Resume | None,
        tally: Tally,
        watch: Watch,
        say: Say,
        note: Callable[[Saved], None],
    ) -> None:
        """``note`` is called with each checkpoint that is committed, on rank 0, in a thread."""
        engine = updating.engine
        self._config, self._engine, self._course, self._watch = config, engine, course, watch
        self._updating = updating
        self._tally = tally
        before = resume.manifest.state.starts if resume else ()
        self._starts = (*before, course.start)
        self._saved = course.start
        self._held_out = own_digest(course.held_out)
        fragments = list(engine.owned())
        store, checkpoint = config.checkpoints(), config.checkpoint
        damaged = resume.damaged if resume else ()
        self.saver = Saver(store, engine.processes, checkpoint, fragments, say, damaged, note)

    def __enter__(self) -> Saving:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.saver.close(LAST_SECONDS)

    def release(self) -> None:
        """Wait for the save under way and give back its memory, until `go_on`."""
        self.saver.release()

    def go_on(self) -> None:
        """Take memory for what the engine holds now."""
        self.saver.hold(list(self._engine.owned()))

    def after(self, step: int, figures: Mapping[str, float], *, asked: bool) -> None:
        """Begin a save if one is due after ``step`` steps or asked for; it keeps ``figures``."""
        epoch, before = self._course.plan.progress(step), self._course.plan.progress(step - 1)
        is_best = self._config.checkpoint.keep_best and figures.get("best_step") == step
        if asked or is_best or due(self._config.checkpoint, step, epoch, before):
            self._save(step, figures)

    def finish(self, step: int, figures: Mapping[str, float]) -> None:
        """Save where the run ends, unless that was done, and wait until it is committed."""
        if step > self._saved:
            self._save(step, figures)
        with self._watch.patient():
            self.saver.finish()

    def refuse_loss(self, step: int) -> None:
        """End the run with a UserError if its last checkpoint could not be written."""
        if self.saver.failure:
            self._engine.processes.fail(
                f"checkpoint: step {step} could not be saved ({self.saver.failure}); mend that and "
                "start the same command again: it goes on from the checkpoint before"
            )

    def _save(self, step: int, figures: Mapping[str, float]) -> None:
        with self._watch.patient():  # the save before may still be on its way
            self.saver.save(list(self._engine.owned()), self._state(step, figures))
        self._saved = step

    def _state(self, step: int, figures: Mapping[str, float]) -> State:
        plan = self._course.plan
        return State(
            step=step,
            epoch=plan.progress(step),
            target=self._course.target,
            updates=self._engine.updates,
            fingerprint=dict(plan.fingerprint),
            origin=plan.origin,
            starts=self._starts,
            resume_points=self._course.resume_points,
            figures=dict(figures),
            health=self._updating.health,
            held_out=self._held_out,
            seen=self._tally.seen,
            init_from=self._course.init_from,
            shapes=self._engine.shapes,
            config=self._config.model_dump(mode="json"),
            versions={name: version(name) for name in LIBRARIES},
        )
