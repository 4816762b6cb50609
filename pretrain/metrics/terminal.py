"""What a run says on the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pretrain.metrics.progress import Forecast, Progress, clock, loss_text, speed
from pretrain.metrics.record import StepRecord
from pretrain.pace import Stragglers
from shards.reading import Failure

DRAW_SECONDS = 0.1
"""The least time between two states that are to be drawn."""


class Terminal:
    """Shows one step in ``every`` and the last by ``say``, as a plain line.

    Where the terminal is ``drawn`` by another process, it says the state of the run instead, far
    more often. ``hosts`` are the machines of all ranks, to name one that is slow; ``unit`` is what
    the model's targets are.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        every: int,
        hosts: Sequence[str],
        *,
        unit: str,
        next_save: Callable[[int], int],
        drawn: bool,
    ) -> None:
        self.say, self._every, self._stragglers = say, every, Stragglers(hosts)
        self._unit, self._forecast, self._drawn = unit, Forecast(next_save), drawn
        self._told = 0.0

    def step(self, record: StepRecord) -> None:
        """Count a step, and show it where it is its turn."""
        self._stragglers.add(record.pace)
        progress = self._forecast.after(record, self._unit)
        is_turn = record.step % self._every == 0 or record.step == record.target
        if self._drawn:
            self._draw(progress)
        elif is_turn:
            self.say(line(record, progress))
        if is_turn and (slow := self._stragglers.told()):
            self.say(slow)

    def _draw(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.step == progress.target or now - self._told >= DRAW_SECONDS:
            self.say(progress.marked())
            self._told = now


def describe_failures(step: int, failures: Sequence[Failure]) -> str:
    """A line about clips that were left out of a step."""
    first = failures[0]
    return (
        f"step {step}: {len(failures)} clip(s) left out, {first.key} of {first.shard}: "
        f"{first.reason} (data_errors.jsonl lists all)"
    )


def line(record: StepRecord, progress: Progress) -> str:
    """One readable line for the terminal."""
    return (
        f"step {record.step}/{record.target}  epoch {record.epoch:.2f}  "
        f"loss {loss_text(progress.loss)}  lr {record.lr:.2e}  {speed(progress)}  "
        f"padding {record.padding:.1%}  grad norm {record.gradient_norm:.2f}  "
        f"ETA {clock(progress.left)}"
    )
