"""When and what a run saves."""

from __future__ import annotations

from importlib.metadata import version

from pretrain.checkpoint.keep import due
from pretrain.checkpoint.manifest import State
from pretrain.checkpoint.restore import Resume
from pretrain.checkpoint.saver import Saver
from pretrain.config import Config
from pretrain.engine import Engine
from pretrain.start import Say
from shards.plan import Plan

LAST_SECONDS = 60.0
"""What a process that ends on an error gives the save under way."""
LIBRARIES = ("torch", "accelerate", "deepspeed")


class Saving:
    """A run's checkpoints from ``start`` on. All ranks call every method together."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        plan: Plan,
        resume: Resume | None,
        start: int,
        say: Say,
    ) -> None:
        self._config, self._engine, self._plan = config, engine, plan
        before = resume.manifest.state.starts if resume else ()
        self._starts = (*before, start)
        self._begun = start
        fragments = list(engine.owned())
        store = resume.store if resume else config.checkpoints()
        damaged = resume.damaged if resume else ()
        self.saver = Saver(store, engine.processes, config.checkpoint, fragments, say, damaged)

    def __enter__(self) -> Saving:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.saver.close(LAST_SECONDS)

    def release(self) -> None:
        """Wait for the save under way and give back its memory: the engine is about to go."""
        self.saver.release()

    def go_on(self, engine: Engine) -> None:
        """Save from ``engine`` from now on."""
        self._engine = engine
        self.saver.hold(list(engine.owned()))

    def after(self, step: int) -> None:
        """Begin a save if one is due after ``step`` steps."""
        epoch, before = self._plan.progress(step), self._plan.progress(step - 1)
        if due(self._config.checkpoint, step, epoch, before):
            self._save(step)

    def finish(self, step: int) -> None:
        """Save where the run ends, unless that was done, and wait until it is committed."""
        if step > self._begun:
            self._save(step)
        self.saver.finish()

    def refuse_loss(self, step: int) -> None:
        """End the run with a UserError if its last checkpoint could not be written."""
        if self.saver.failure:
            self._engine.processes.fail(
                f"checkpoint: step {step} could not be saved ({self.saver.failure}); mend that and "
                "start the same command again: it goes on from the checkpoint before"
            )

    def _save(self, step: int) -> None:
        self.saver.save(list(self._engine.owned()), self._state(step))
        self._begun = step

    def _state(self, step: int) -> State:
        plan = self._plan
        return State(
            step=step,
            epoch=plan.progress(step),
            updates=self._engine.updates,
            fingerprint=dict(plan.fingerprint),
            origin=plan.origin,
            starts=self._starts,
            shapes=self._engine.shapes,
            config=self._config.model_dump(mode="json"),
            versions={name: version(name) for name in LIBRARIES},
        )
