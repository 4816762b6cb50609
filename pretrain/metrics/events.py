"""TensorBoard's file of a run: one record an event, appended whole or not at all.

TensorBoard's own writer works in a thread, which a full disk ends, and opens the file anew for
every number; here a step's numbers are one event and one call of the system.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pretrain.metrics.files import append

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary


class EventFile:
    """A new file in ``folder``; TensorBoard forgets what older ones hold of ``start`` and later.

    ``opening`` summaries are there before anything else: where the disk is full at first, they are
    written with the first one that fits.
    """

    def __init__(self, folder: Path, start: int, opening: Sequence[Summary]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        now = time.time_ns()  # files are read in the order of their names
        name = f"events.out.tfevents.{now // 10**9:010d}.{now % 10**9:09d}.{os.uname().nodename}"
        self._path, self._file = folder / f"{name}.{os.getpid()}", cast("RawIOBase | None", None)
        begun = SessionLog(status=SessionLog.START)
        events = [Event(file_version="brain.Event:2"), Event(step=start, session_log=begun)]
        events += [Event(summary=summary) for summary in opening]
        self._before = b"".join(_record(event) for event in events)

    def add(self, summary: Summary, step: int) -> None:
        """Append what is known at ``step``; it is lost where there is no room."""
        from tensorboard.compat.proto.event_pb2 import Event

        if self._file is None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("ab", buffering=0)
            except OSError:
                return
        if append(self._file, self._before + _record(Event(step=step, summary=summary))):
            self._before = b""

    def close(self) -> None:
        """Nothing is left to be written."""
        if self._file is not None:
            self._file.close()


def _record(event: Event) -> bytes:
    from tensorboard.summary.writer.record_writer import RecordWriter

    event.wall_time = time.time()
    framed = BytesIO()
    RecordWriter(framed).write(event.SerializeToString())
    return framed.getvalue()
