"""From a run's configuration to what writes down its figures."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import TYPE_CHECKING

from pretrain.engine import accelerate_tracker
from pretrain.metrics.board import Board
from pretrain.metrics.gauges import gauges_of
from pretrain.metrics.hparams import hparams
from pretrain.metrics.lengths import Lengths
from pretrain.metrics.recorder import Metrics
from pretrain.metrics.terminal import Terminal
from pretrain.metrics.trackers import TENSORBOARD, Tracker
from pretrain.processes import Processes
from pretrain.tally import EDGES, Tally

if TYPE_CHECKING:
    from pretrain.config import Config
    from pretrain.start import Course


def metrics_of(
    config: Config, course: Course, processes: Processes, tally: Tally, terminal: Terminal
) -> AbstractContextManager[Metrics | None]:
    """What writes down a run's figures: on rank 0 alone."""
    if processes.rank:
        return nullcontext()
    folder, start = config.run.folder, course.start
    settings = hparams(config, processes.world_size)
    drawn: list[Board | Tracker] = []
    for name in config.trackers:
        if name == TENSORBOARD:
            drawn.append(Board(folder / TENSORBOARD, start, settings))
        else:
            begin = partial(accelerate_tracker, name, config.run.name, folder / name, settings)
            drawn.append(Tracker(name, begin, terminal.say))
    every = config.validation.every or config.checkpoint.every
    lengths = Lengths(tally, cache(partial(course.plan.census.by_seconds, EDGES)), every)
    gauges = (*gauges_of(processes.device, processes.world_size), tally)
    return Metrics(folder, start, terminal, drawn, gauges, lengths)
