"""Stopping and saving when asked: signals and files, decided by all ranks at a step's end."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import NamedTuple

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
FILE_NAME = "STOP"
SAVE_FILE_NAME = "SAVE"
INTERRUPTED = 75
"""The exit code of a run that a signal stopped before its target: start it again to go on.

It is EX_TEMPFAIL of sysexits.h.
"""


class Asked(NamedTuple):
    """What was asked of a run: by a signal or a file to stop, by a file to save."""

    by_signal: bool = False
    by_file: bool = False
    to_save: bool = False

    @property
    def to_stop(self) -> bool:
        """Whether the run is to end after this step."""
        return self.by_signal or self.by_file

    @property
    def interrupts(self) -> bool:
        """Whether the run is to be started again; who leaves a file does not want that."""
        return self.by_signal and not self.by_file


class StopRequest:
    """What this process was asked for; handlers only set a flag.

    ``folder`` is the run's: a file named STOP in it asks to stop, one named SAVE for a checkpoint.
    One rank watches for them (``watches``); a look at a shared file system by each, each step,
    would be many.
    """

    def __init__(self, folder: Path, *, watches: bool) -> None:
        self._watches = watches
        self._stop, self._save = folder / FILE_NAME, folder / SAVE_FILE_NAME
        self._signalled = False
        for number in SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signalled = True
        if number == signal.SIGINT:  # a second Ctrl-C ends the process at once
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def asked(self) -> Asked:
        """What this process knows of by now."""
        return Asked(self._signalled, self._is_there(self._stop), self._is_there(self._save))

    def saved(self, asked: Asked) -> None:
        """What was ``asked`` for is being saved: remove the SAVE file, if that did."""
        if asked.to_save and self._watches:
            self._save.unlink(missing_ok=True)

    def answered(self, asked: Asked) -> None:
        """The run has stopped and saved: remove the STOP file, if that was ``asked`` by one.

        One that has come since stays: who reads the exit code of an interrupted run has to know.
        """
        if self._watches:
            if asked.by_file:
                self._stop.unlink(missing_ok=True)
            self._save.unlink(missing_ok=True)

    def _is_there(self, file: Path) -> bool:
        return self._watches and file.exists()
