"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A path beside ``path`` to write to; it takes ``path``'s place when the block ends well.

    Else it is removed. It is on the disk before it takes the place, so that a machine that loses
    power leaves the old file or the new one; a file that is not ``durable`` may be torn then.
    Processes on several machines may write the same file.
    """
    aside = aside_of(path)
    try:
        yield aside
        if durable:
            to_disk(aside)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def aside_of(path: Path) -> Path:
    """A hidden name beside ``path`` that no other process uses."""
    return path.with_name(f".{path.name}.{_processes()}.{os.getpid()}")


def sweep(folder: Path) -> None:
    """Remove what killed processes of this machine were writing aside in ``folder``."""
    for aside in folder.glob(f".*.{_processes()}.*"):
        pid = aside.name.rpartition(".")[2]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            _remove(aside)


@cache
def _processes() -> str:
    """What tells this machine's process numbers from others', containers' too."""
    try:
        space = Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
    except OSError:  # no Linux
        space = "0"
    return f"{socket.gethostname()}-{space}"


def _remove(aside: Path) -> None:
    if aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
