"""One run at a time in a run folder."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from shards.errors import UserError

FILE_NAME = ".lock"
RETRY_SECONDS = 0.5
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


class InUseError(UserError):
    """A run folder belongs to another process."""


def hold(
    folder: Path, patience: float = 0.0, say: Callable[[str], None] = lambda _: None
) -> IO[str]:
    """Lock ``folder`` until the returned file is closed or this process ends, however it ends.

    The system drops the lock of a process that has ended, on whatever machine, so none is stale.
    Where the file system has no locks, the process that the file names counts: one of this machine
    that is gone has left a stale lock. InUseError where another process still holds it after
    ``patience`` seconds; that it is waited for is said once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / FILE_NAME).open("a+", encoding="utf-8")
    began = time.monotonic()
    if not _locks(file) and patience:
        say(
            f"waiting up to {patience:.0f} s for process {_named(file)}, which still holds {folder}"
        )
    while not _locks(file):
        if time.monotonic() - began >= patience:
            raise _in_use(folder, _named(file))
        time.sleep(RETRY_SECONDS)
    file.truncate(0)
    file.write(f"{os.getpid()} on {os.uname().nodename}")
    file.flush()
    return file


def _locks(file: IO[str]) -> bool:
    """Whether the lock is this file's now; it may be taken twice."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        return is_stale(_named(file))
    return True


def is_stale(holder: str) -> bool:
    """Whether "PID on HOST" names a process of this machine that is gone, or nobody."""
    pid, _, host = holder.partition(" on ")
    return not holder or (host == os.uname().nodename and not Path("/proc", pid).exists())


def _named(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip()


def _in_use(folder: Path, holder: str) -> InUseError:
    return InUseError(
        f"run.name: {folder} is in use by process {holder or 'unknown'}; wait for it, choose "
        f"another run.name, or remove {folder / FILE_NAME} if that process is gone"
    )
