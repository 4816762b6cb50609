"""Other trackers of a run's curves, fed beside the training: one that fails or lags is left."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from importlib.util import find_spec
from threading import BoundedSemaphore
from typing import Protocol

from shards.errors import UserError

TENSORBOARD = "tensorboard"
TRACKERS = (
    TENSORBOARD,
    "aim",
    "clearml",
    "comet_ml",
    "dvclive",
    "mlflow",
    "swanlab",
    "trackio",
    "wandb",
)
"""Accelerate's; each is the name of the package that it needs."""
WAITING = 1000
"""Points that a tracker may lag behind; what is drawn then does not reach it."""
LAST_SECONDS = 60.0
"""What a tracker gets to write out the rest when a run ends."""

Scalars = Mapping[str, float]


def refuse_unknown(names: Sequence[str]) -> None:
    """UserError for the name of no tracker and for one whose package is missing."""
    for name in names:
        if name not in TRACKERS:
            close = difflib.get_close_matches(name, TRACKERS, n=1, cutoff=0.5)
            meant = f"did you mean {close[0]}?" if close else f"use {', '.join(TRACKERS)}"
            raise UserError(f"trackers: there is no tracker {name!r}; {meant}")
        if find_spec(name) is None:
            raise UserError(
                f"trackers: {name} needs the package {name}, which is not installed; "
                f"pip install {_DISTRIBUTIONS.get(name, name)}, or leave it out"
            )


_DISTRIBUTIONS = {"comet_ml": "comet-ml"}


def plain(tag: str) -> str:
    """A tag as all trackers take it: in one group, of letters, digits, underscores, - and dots.

    Where MLflow keeps files, one curve cannot be the folder of another.
    """
    group, _, name = tag.partition("/")
    return f"{group}/{re.sub('[^a-zA-Z0-9_.-]', '_', name.replace('/', '.'))}"


class Log(Protocol):
    """What is needed of one of Accelerate's trackers."""

    def log(self, values: dict[str, float], step: int) -> None: ...
    def finish(self) -> None: ...


class Tracker:
    """Feeds a tracker in a thread of its own, where it begins and ends too."""

    def __init__(self, name: str, begin: Callable[[], Log], say: Callable[[str], None]) -> None:
        """``begin`` makes it, its settings written down."""
        self._name, self._say, self._log = name, say, list[Log]()
        self._failed, self._lagged, self._room = False, False, BoundedSemaphore(WAITING)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._submit(lambda: self._log.append(begin()))

    def draw(self, step: int, scalars: Scalars) -> None:
        """Add a point to each curve, soon."""
        values = {plain(tag): value for tag, value in scalars.items()}
        if self._submit(lambda: self._log[0].log(values, step=step)) or self._lagged:
            return
        self._lagged = True
        self._say(
            f"WARNING: the tracker {self._name} lags {WAITING} points behind; it misses some from "
            f"step {step} on"
        )

    def close(self) -> None:
        """Wait until all that was drawn is there, or `LAST_SECONDS`."""
        wait([self._thread.submit(self._guarded, self._finish)], LAST_SECONDS)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _finish(self) -> None:
        self._log[0].finish()

    def _submit(self, work: Callable[[], None]) -> bool:
        """Whether there was room for it."""
        if not self._room.acquire(blocking=False):
            return False
        done = self._thread.submit(self._guarded, work)
        done.add_done_callback(lambda _: self._room.release())
        return True

    def _guarded(self, work: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            work()
        except Exception as error:  # a tracker's server, its quota, its login: not the run's matter
            self._failed = True
            self._say(f"WARNING: the tracker {self._name} gets nothing more: {error!r}")
