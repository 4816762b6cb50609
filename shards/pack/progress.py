"""What packing shows while it works."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

LINE_EVERY_SECONDS = 30.0


@dataclass(frozen=True)
class Done:
    """So much of the corpus: ``seconds`` of it are looked at, of which came the rest."""

    seconds: float = 0.0
    clips: int = 0
    hours: float = 0.0
    rejects: int = 0

    def __add__(self, other: Done) -> Done:
        return Done(
            self.seconds + other.seconds,
            self.clips + other.clips,
            self.hours + other.hours,
            self.rejects + other.rejects,
        )


class Watch(Protocol):
    """Is told how far packing is."""

    def say(self, text: str) -> None:
        """Something happened that is worth a line."""
        ...

    def begin(self, seconds: float) -> None:
        """So much audio there is to look at, about."""
        ...

    def advance(self, done: Done, *, fresh: bool) -> None:
        """More is done; ``fresh`` if now, and not by an earlier start."""
        ...


class Quiet:
    """A watch that shows nothing."""

    def say(self, text: str) -> None:
        """Nothing is shown."""

    def begin(self, seconds: float) -> None:
        """Nothing is shown."""

    def advance(self, done: Done, *, fresh: bool) -> None:
        """Nothing is shown."""


class Screen:
    """A bar on a terminal; elsewhere, as in a job's log, a line now and then."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._total, self._done, self._fresh = 0.0, Done(), 0.0
        self._begun = self._shown = clock()
        self._bar = Progress(
            TextColumn("packing"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:.0f} %  {task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def begin(self, seconds: float) -> None:
        """Start the clock."""
        self._total = seconds
        self._begun = self._shown = self._clock()
        self._bar.start()

    def advance(self, done: Done, *, fresh: bool) -> None:
        """Move the bar."""
        self._done += done
        self._fresh += done.seconds if fresh else 0.0
        text = self.describe()
        total = max(self._total, self._done.seconds)
        self._bar.update(self._task, total=total, completed=self._done.seconds, description=text)
        if not self._console.is_terminal and self._clock() - self._shown >= LINE_EVERY_SECONDS:
            self._shown = self._clock()
            self.say(text)

    def describe(self) -> str:
        """Clips, hours, rejects, realtime factor and the time that is left."""
        speed = self._fresh / max(self._clock() - self._begun, 1e-9)
        left = max(0.0, self._total - self._done.seconds) / speed if speed > 0 else 0.0
        return (
            f"{self._done.clips:,} clips, {self._done.hours:,.2f} h, "
            f"{self._done.rejects:,} rejected, {speed:,.0f}x realtime, {_clock_time(left)} left"
        )


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
