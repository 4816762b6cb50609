"""The progress of a run on a terminal, in two lines below all others."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pretrain.metrics.progress import Progress, clock, loss_text, speed

BAR = 24
"""Columns of the bar: all of the display fits where lines of text do, so that a narrower window
does not wrap it."""
DRAW_SECONDS = 0.25


class Display:
    """Shows lines as they come and, below them, the last `Progress` that was among them.

    Usable as a context manager, which leaves the terminal as it was. One thread draws.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._progress: Progress | None = None
        self._since, self._drawn = 0.0, 0.0

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the terminal is gone
            self._live.stop()

    def take(self, line: str) -> None:
        """A line of the run's output, without its end."""
        progress = Progress.parsed(line)
        if progress is None:
            text = Text.from_ansi(line.rpartition("\r")[2])
            self._console.print(text, soft_wrap=True)
            return
        self._progress, self._since = progress, time.monotonic()
        self.tick()

    def tick(self) -> None:
        """Draw anew where it is time to; what is left is counted down between steps."""
        now = time.monotonic()
        if self._progress is None or now - self._drawn < DRAW_SECONDS:
            return
        self._drawn = now
        if not self._live.is_started:
            self._live.start()
        self._live.update(drawing(_aged(self._progress, now - self._since)), refresh=True)


def _aged(progress: Progress, seconds: float) -> Progress:
    left, to_save = (
        None if foreseen is None else max(0.0, foreseen - seconds)
        for foreseen in (progress.left, progress.to_save)
    )
    return replace(progress, left=left, to_save=to_save)


def drawing(progress: Progress) -> Group:
    """The two lines."""
    bar = ProgressBar(progress.target, progress.step, width=BAR)
    above = Table.grid(padding=(0, 2))
    above.add_row(
        _whole(f"step {progress.step}/{progress.target}"),
        bar,
        _whole(f"epoch {progress.epoch:.2f}"),
        _whole(f"ETA {clock(progress.left)}"),
    )
    below = _whole(
        f"loss {loss_text(progress.loss)}  lr {progress.lr:.2e}  {speed(progress)}  "
        f"checkpoint in {clock(progress.to_save)}"
    )
    return Group(above, below)


def _whole(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")
