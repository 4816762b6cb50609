"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; it takes ``path``'s place when the block ends well.

    Else it is removed. Processes on several machines that share a disk may write the same file.
    """
    aside = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    try:
        yield aside
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def sweep(folder: Path) -> None:
    """Remove what killed processes of this machine were writing aside in ``folder``."""
    for aside in folder.glob(f".*.{socket.gethostname()}.*"):
        pid = aside.name.rpartition(".")[2]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            aside.unlink(missing_ok=True)
