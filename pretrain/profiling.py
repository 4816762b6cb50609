"""Steps under torch's profiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from pydantic import Field, model_validator
from torch.profiler import ProfilerActivity, profile

from shards.plan import StepPlan
from shards.section import Section

if TYPE_CHECKING:
    from pretrain.config import Config
    from pretrain.processes import Processes
    from pretrain.watch import Watch


class ProfileConfig(Section):
    """``profile``: steps of which rank 0 writes down where their time goes."""

    steps: tuple[int, int] | None = Field(
        default=None, description="the first and the last step, counted from 1 as in log.jsonl"
    )

    @model_validator(mode="after")
    def _ordered(self) -> ProfileConfig:
        if self.steps and not 1 <= self.steps[0] <= self.steps[1]:
            raise ValueError("steps: write the first and the last one, such as [100, 110]")
        return self


class Profiling:
    """Takes the steps that ``profile`` names under the profiler, on rank 0.

    Its trace goes beside the run's curves; each start of the run makes its own.
    """

    def __init__(
        self,
        config: Config,
        processes: Processes,
        start: int,
        watch: Watch,
        say: Callable[[str], None],
    ) -> None:
        """Of a run that goes on after step ``start``."""
        self._span = None if processes.rank else config.profile.steps
        if self._span and self._span[1] <= start:
            first, last = self._span
            say(
                f"profile.steps=[{first},{last}] were taken before: the run goes on after step "
                f"{start}, and nothing is profiled"
            )
        self._folder = config.run.folder / "tensorboard"
        self._watch, self._say = watch, say
        self._path = self._folder
        self._profiler: profile | None = None

    def over(self, steps: Iterator[StepPlan]) -> Iterator[StepPlan]:
        """``steps``; a trace that is not at its end when they are left ends there."""
        try:
            for one in steps:
                self._begin(one.step + 1)
                yield one
        finally:
            self._end()

    def stepped(self, step: int) -> None:
        """Step ``step`` is done: a trace has nothing of what is done after its last one."""
        if self._span and step == self._span[1]:
            self._end()

    def _begin(self, number: int) -> None:
        if self._profiler or not self._span or not self._span[0] <= number <= self._span[1]:
            return
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._path = self._folder / f"steps_{number}_{self._span[1]}.pt.trace.json.gz"
        self._profiler = profile(activities=activities, acc_events=True)
        self._profiler.start()

    def _end(self) -> None:
        if self._profiler is None:
            return
        with self._watch.patient():
            self._profiler.stop()
            self._write(self._profiler)
        self._profiler = None

    def _write(self, profiler: profile) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            profiler.export_chrome_trace(str(self._path))
        except OSError as error:  # a full disk costs the trace and not the run
            self._say(f"WARNING: the profile was not written: {error}")
        else:
            how = "open it at ui.perfetto.dev, or in TensorBoard by torch-tb-profiler"
            self._say(f"wrote {self._path}: {how}")
