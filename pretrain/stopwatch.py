"""How long stretches of a rank's computation take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch


class Stopwatch:
    """Adds up how long this thread takes for what is done inside `running`."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def reset(self) -> None:
        """Begin anew."""
        self._seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what is done inside."""
        began = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - began

    @property
    def seconds(self) -> float:
        """The sum since `reset`."""
        return self._seconds


class StreamStopwatch(Stopwatch):
    """Adds up how long the device's stream takes for what is put on it inside `running`.

    Nothing waits for it until `seconds` is asked for, which is best done after something else has
    waited for the stream.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._stream = torch.cuda.current_stream(device)
        self._stretches: list[tuple[Any, Any]] = []

    def reset(self) -> None:
        """Begin anew."""
        self._stretches.clear()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what is put on the stream inside."""
        event = cast("Any", torch.cuda.Event)
        first, last = event(enable_timing=True), event(enable_timing=True)
        first.record(self._stream)
        yield
        last.record(self._stream)
        self._stretches.append((first, last))

    @property
    def seconds(self) -> float:
        """The sum since `reset`."""
        for _, last in self._stretches[-1:]:
            last.synchronize()
        return sum(float(first.elapsed_time(last)) for first, last in self._stretches) / 1000


def stopwatch(device: torch.device) -> Stopwatch:
    """One that suits what computes there."""
    return StreamStopwatch(device) if device.type == "cuda" else Stopwatch()
