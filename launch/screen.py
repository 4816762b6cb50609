"""What a run's processes write, drawn by the one process that owns the terminal."""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable
from subprocess import Popen
from typing import IO

from launch.display import DRAW_SECONDS, Display

BLOCK = 1 << 16


def is_terminal(stream: IO[str]) -> bool:
    """Whether it is one on which a display can be drawn."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in {"", "dumb", "unknown"}


def follow(child: Popen[bytes], display: Display, told: Callable[[], str | None]) -> int:
    """Show what a process and its children write on its pipes until it ends; its exit code.

    ``told`` is asked again and again for a line of this process's own.
    """
    with selectors.DefaultSelector() as selector:
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ, _Lines(display.take))
        while True:
            has_ended = child.poll() is not None  # asked first: nothing comes after the rest
            for key, _ in selector.select(0 if has_ended else DRAW_SECONDS):
                if not key.data.read(key.fd):
                    selector.unregister(key.fileobj)
            if line := told():
                display.take(line)
            display.tick()
            if has_ended and not selector.select(0):
                break
            if not selector.get_map():
                child.wait()
        for key in selector.get_map().values():
            key.data.end()
    return child.wait()


class _Lines:
    """Cuts what is read into lines; those that a process leaves without an end go last."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take, self._rest = take, b""

    def read(self, number: int) -> bool:
        """Whether there may be more."""
        try:
            block = os.read(number, BLOCK)
        except BlockingIOError:
            return True
        if not block:
            self.end()
            return False
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            self._take(line.decode(errors="replace"))
        return True

    def end(self) -> None:
        """Show what is left."""
        if self._rest:
            self._take(self._rest.decode(errors="replace"))
        self._rest = b""
