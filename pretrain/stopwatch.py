"""How long the parts of a rank's step take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch

Part = Literal["data", "forward", "backward", "optimizer", "checkpoint"]
"""What a step is made of; ``data`` and ``checkpoint`` wait for a batch and for a save's copy."""


class Stopwatch:
    """Adds up how long this thread takes for what is done inside `running`."""

    def __init__(self) -> None:
        self._seconds: dict[Part, float] = {}
        self._before: dict[str, float] = {}
        self._began = time.perf_counter()

    def reset(self) -> None:
        """Begin anew."""
        self._before = self.spent()
        self._seconds.clear()
        self._began = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since `reset`."""
        return time.perf_counter() - self._began

    @contextmanager
    def running(self, part: Part) -> Iterator[None]:
        """Count what is done inside as ``part``."""
        began = time.perf_counter()
        yield
        self.add(part, time.perf_counter() - began)

    def add(self, part: Part, seconds: float) -> None:
        """Count what was measured elsewhere."""
        self._seconds[part] = self._seconds.get(part, 0.0) + seconds

    def seconds(self, *parts: Part) -> float:
        """The sum over ``parts`` since `reset`."""
        return sum(self._seconds.get(part, 0.0) for part in parts)

    def before(self, *parts: Part) -> float:
        """The sum over ``parts`` until the last `reset`: nothing waits for it."""
        return sum(self._before.get(part, 0.0) for part in parts)

    def spent(self) -> dict[str, float]:
        """Seconds of each part since `reset`."""
        return {part: self.seconds(part) for part in self._seconds}


class StreamStopwatch(Stopwatch):
    """Adds up how long the device's stream takes for what is put on it inside `running`.

    Nothing waits for it until seconds are asked for or begun anew, which is best done after
    something else has waited for the stream.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._stream = torch.cuda.current_stream(device)
        self._stretches: list[tuple[Part, Any, Any]] = []

    @contextmanager
    def running(self, part: Part) -> Iterator[None]:
        """Count what is put on the stream inside as ``part``."""
        event = cast("Any", torch.cuda.Event)
        first, last = event(enable_timing=True), event(enable_timing=True)
        first.record(self._stream)
        yield
        last.record(self._stream)
        self._stretches.append((part, first, last))

    def seconds(self, *parts: Part) -> float:
        """The sum over ``parts`` since `reset`."""
        self._settle()
        return super().seconds(*parts)

    def spent(self) -> dict[str, float]:
        """Seconds of each part since `reset`."""
        self._settle()
        return super().spent()

    def _settle(self) -> None:
        for _, _, last in self._stretches[-1:]:
            last.synchronize()
        for part, first, last in self._stretches:
            self.add(part, float(first.elapsed_time(last)) / 1000)
        self._stretches.clear()


def stopwatch(device: torch.device) -> Stopwatch:
    """One that suits what computes there."""
    return StreamStopwatch(device) if device.type == "cuda" else Stopwatch()
