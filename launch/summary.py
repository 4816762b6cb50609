"""What came of a run: told once where it ends, however it does."""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import TypeVar

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from launch.failure import MISTAKE
from launch.last_lines import records
from launch.step_log import LOG
from pretrain.checkpoint.location import store_of
from pretrain.checkpoint.manifest import Manifest
from pretrain.checkpoint.store import newest
from pretrain.metrics.progress import clock
from pretrain.stop import INTERRUPTED
from shards.errors import UserError

_Line = TypeVar("_Line", bound=BaseModel)
PAGES = {"watch": "      # http://localhost:6006/#custom_scalars"}
"""Where to look at what a command shows, by its name."""
ENDS = 5
"""Steps averaged for the first and the last loss."""


@dataclass(frozen=True)
class Ended:
    """A start of the run in ``folder`` that began at ``since`` (Unix seconds) and left ``code``.

    ``again`` is the command that started it, ``further`` the settings that go on from its target;
    both are () where the user does not start it by hand.
    """

    folder: Path
    since: float
    code: int
    again: Sequence[str] = ()
    further: Sequence[str] = ()


class Step(BaseModel, frozen=True):
    """What is wanted of a line of the log."""

    step: int
    target: int
    epoch: float
    time: float
    loss: float | None
    seconds: float
    audio_seconds: float
    failed_clips: int


class Validation(BaseModel, frozen=True):
    """What is wanted of a line of validation.jsonl."""

    step: int
    set: str
    group: str
    loss: float | None


@dataclass
class Totals:
    """Sums over a run's log, of which ``last`` is the last step."""

    last: Step
    here: int = 0
    seconds: float = 0.0
    here_seconds: float = 0.0
    audio: float = 0.0
    left_out: int = 0
    first_losses: list[float] = field(default_factory=list)
    last_losses: deque[float] = field(default_factory=lambda: deque(maxlen=ENDS))

    def add(self, step: Step, since: float) -> None:
        """Count a step; it is of this start if it ended after ``since``."""
        self.last = step
        self.seconds += step.seconds
        self.audio += step.audio_seconds
        self.left_out += step.failed_clips
        if step.time >= since:
            self.here += 1
            self.here_seconds += step.seconds
        if step.loss is not None:
            self.last_losses.append(step.loss)
            if len(self.first_losses) < ENDS:
                self.first_losses.append(step.loss)


def totals_of(path: Path, since: float) -> Totals | None:
    """Of a log; None where it holds no step."""
    totals: Totals | None = None
    for step in _read(Step, path):
        totals = totals or Totals(step)
        totals.add(step, since)
    return totals


def show(ended: Ended, console: Console) -> None:
    """One table on a terminal, plain lines elsewhere; nothing of a run that has not made a step."""
    totals = totals_of(ended.folder / LOG, ended.since)
    if totals is None:
        return
    title, rows = f"summary of run {ended.folder.name}", figures(ended, totals)
    if console.is_terminal:
        table = Table(title=title, title_justify="left", show_header=False)
        table.add_column()
        table.add_column(overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    else:
        _print(console, [title, *(f"  {name}: {value}" for name, value in rows)])
    _print(console, [f"{f'{name}:':<9} {command}" for name, command in nexts(ended, totals)])


def outcome(ended: Ended, totals: Totals) -> str:
    """How it ended."""
    step, target = totals.last.step, totals.last.target
    match ended.code:
        case 0 if step >= target:
            return f"at its target, step {step}"
        case 0:
            return f"stopped at step {step} of {target}"
        case code if code == INTERRUPTED:
            return f"stopped by a signal at step {step} of {target}"
        case code if code == MISTAKE:
            return f"ended at step {step} of {target} on the mistake above"
        case code:
            return f"failed after step {step} of {target}, exit code {code}"


def figures(ended: Ended, totals: Totals) -> list[tuple[str, str]]:
    """What was done, by name."""
    real_time = totals.audio / totals.seconds
    rows = [
        ("outcome", outcome(ended, totals)),
        ("steps", f"{totals.last.step:,}, {totals.here:,} of them in this start"),
        ("epochs", f"{totals.last.epoch:.2f}"),
        ("loss", _loss(totals)),
        ("best validation", _best(ended.folder / "validation.jsonl")),
        ("time in steps", f"{clock(totals.seconds)}, {clock(totals.here_seconds)} in this start"),
        (
            "audio",
            f"{totals.audio / 3600:,.2f} h, {real_time:,.0f} x real time",
        ),
        ("clips left out", f"{totals.left_out:,} (data_errors.jsonl)" if totals.left_out else ""),
        ("checkpoint", _checkpoint(ended.folder)),
    ]
    return [(name, value) for name, value in rows if value]


def nexts(ended: Ended, totals: Totals) -> list[tuple[str, str]]:
    """What to do next: commands by name."""
    commands = [("watch", ["tensorboard", "--logdir", str(ended.folder / "tensorboard")])]
    if ended.again and totals.last.step < totals.last.target:
        commands.append(("resume", [*ended.again]))
    elif ended.again and ended.further:
        keys = {setting.partition("=")[0] for setting in ended.further}
        kept = [word for word in ended.again if word.partition("=")[0] not in keys]
        commands.append(("further", [*kept, *ended.further]))
    return [(name, shlex.join(command) + PAGES.get(name, "")) for name, command in commands]


def _loss(totals: Totals) -> str:
    if not totals.first_losses:
        return "never finite"
    first, last = mean(totals.first_losses), mean(totals.last_losses)
    count = len(totals.first_losses)
    change = f" ({last / first - 1:+.0%})" if first else ""
    return f"{first:.4f} in the first {count} steps, {last:.4f} in the last{change}"


def _best(path: Path) -> str:
    # The set and the group that a checkpoint's best one is chosen by.
    own = (one for one in _read(Validation, path) if (one.set, one.group) == ("validation", "all"))
    judged = [(one.loss, one.step) for one in own if one.loss is not None]
    return "loss {:.4f} at step {}".format(*min(judged)) if judged else ""


def _checkpoint(folder: Path) -> str:
    try:
        store = store_of(str(folder))
        whole = (name for name, found in newest(store) if isinstance(found, Manifest))
        name = next(whole, None)
    except (OSError, UserError) as error:
        return f"unknown: {error}"
    return store.place(name) if name else "none yet"


def _read(kind: type[_Line], path: Path) -> Iterator[_Line]:
    if path.is_file():
        with path.open("rb") as file:
            yield from records(kind, file)


def _print(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
