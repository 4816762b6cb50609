"""Stopping before the target: a signal or a STOP file, decided by all ranks at a step's end."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
FILE_NAME = "STOP"
INTERRUPTED = 75


class StopRequest:
    """Whether this process was asked to stop; handlers only set a flag.

    ``folder`` is the run's: a file named STOP in it asks as a signal does. One rank watches for
    it (``watches``); a look at a shared file system by each, each step, would be many.
    """

    def __init__(self, folder: Path, *, watches: bool) -> None:
        self._file = folder / FILE_NAME if watches else None
        self._signalled = False
        for number in SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signalled = True
        if number == signal.SIGINT:  # a second Ctrl-C ends the process at once
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def answered(self) -> None:
        """Remove the file: the run has stopped, its next start must not."""
        if self._file:
            self._file.unlink(missing_ok=True)

    def __bool__(self) -> bool:
        return self._signalled or (self._file is not None and self._file.exists())
