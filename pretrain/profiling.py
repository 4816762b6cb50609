"""Steps under torch's profiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import Field, model_validator
from torch.profiler import ProfilerActivity, profile

from shards.plan import StepPlan
from shards.section import Section

if TYPE_CHECKING:
    from pretrain.config import Config
    from pretrain.engine import Processes


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


def profiled(
    steps: Iterator[StepPlan], config: Config, processes: Processes, say: Callable[[str], None]
) -> Iterator[StepPlan]:
    """``steps``, those that ``profile`` names under the profiler on rank 0.

    Its trace goes beside the run's curves; each start of the run makes its own.
    """
    if config.profile.steps is None or processes.rank:
        yield from steps
        return
    folder = config.run.folder / "tensorboard"
    first, last = config.profile.steps
    with ExitStack() as trace:
        runs = False
        for one in steps:
            number = one.step + 1
            if first <= number <= last and not runs:
                trace.enter_context(_traced(folder / f"steps_{number}_{last}", say))
                runs = True
            elif number > last:
                trace.close()
            yield one


@contextmanager
def _traced(place: Path, say: Callable[[str], None]) -> Iterator[None]:
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    profiler = profile(activities=activities, acc_events=True)
    profiler.start()
    try:
        yield
    finally:
        profiler.stop()
        path = place.with_suffix(".pt.trace.json.gz")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            profiler.export_chrome_trace(str(path))
        except OSError as error:  # a full disk costs the trace and not the run
            say(f"WARNING: the profile was not written: {error}")
        else:
            say(f"wrote {path}: open it at ui.perfetto.dev, or in TensorBoard by torch-tb-profiler")
