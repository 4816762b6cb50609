"""A watch on hangs: a process that gives no sign of life writes where it is, and ends.

Neither needs the interpreter: a C thread dumps the stacks though the interpreter's lock is held,
and the kernel ends the process whatever it is stuck in.
"""

from __future__ import annotations

import faulthandler
import math
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

FOLDER_NAME = "hang"
GRACE_SECONDS = 10.0
"""Between a dump and the end, so that all ranks have dumped before the first ends."""


def new_folder(run_folder: Path) -> Path:
    """Where this start of a run writes where its processes hang, should they.

    What starts before it have left stays where there are stacks in it. For one process, which holds
    the run's lock.
    """
    for folder in (run_folder / FOLDER_NAME).glob("*"):
        if not any(_is_told(path.read_bytes()) for path in folder.glob("rank_*.txt")):
            shutil.rmtree(folder, ignore_errors=True)
    return run_folder / FOLDER_NAME / f"{datetime.now():%Y%m%d-%H%M%S}"


def _is_told(text: bytes) -> bool:
    """Whether there are stacks below the line that names the process."""
    return text.count(b"\n") > 1


class Watch:
    """Ends this process where too long passes between two signs of life. A context manager.

    The limit is ``start_seconds`` until the first step is done, then ``hang_seconds``. At the limit
    the stacks of all threads go to ``folder/rank_NNNNN.txt``; `GRACE_SECONDS` later (or the limit
    again, if that is less) SIGALRM ends the process. The file is there from the start,
    because a process that hangs may not be able to open one. It is removed at the end, unless the
    process ends on an error and stacks are in it. For the main thread alone.
    """

    def __init__(
        self, folder: Path, rank: int, *, start_seconds: float, hang_seconds: float
    ) -> None:
        self._path = folder / f"rank_{rank:05d}.txt"
        self._start_seconds, self._hang_seconds = start_seconds, hang_seconds
        self._limit = start_seconds
        self._header = f"rank {rank}, process {os.getpid()} on {os.uname().nodename}\n".encode()

    def __enter__(self) -> Watch:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("wb", buffering=0)
        self._file.write(self._header)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        self.alive()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        is_told = os.fstat(self._file.fileno()).st_size > len(self._header)
        self._file.close()
        if kind is not None and is_told:
            return
        with suppress(OSError):  # others' files are still in the folder
            self._path.unlink()
            self._path.parent.rmdir()
            self._path.parent.parent.rmdir()

    def alive(self) -> None:
        """A sign of life: the limit begins anew."""
        self._arm(self._limit)

    def stepped(self) -> None:
        """A step is done; from now on ``hang_seconds`` are the limit."""
        self._limit = self._hang_seconds
        self.alive()

    @contextmanager
    def patient(self) -> Iterator[None]:
        """``start_seconds`` for what is done inside and may take long."""
        self._arm(self._start_seconds)
        yield
        self.alive()

    def _arm(self, seconds: float) -> None:
        faulthandler.dump_traceback_later(seconds, file=self._file)
        signal.alarm(math.ceil(seconds + min(seconds, GRACE_SECONDS)))
