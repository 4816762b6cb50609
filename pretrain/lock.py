"""One run at a time in a run folder."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import IO

from shards.errors import UserError

FILE_NAME = ".lock"
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


def hold(folder: Path) -> IO[str]:
    """Lock ``folder`` until the returned file is closed or this process ends, however it ends.

    The system drops the lock of a process that has ended, on whatever machine, so none is stale.
    Where the file system has no locks, the process that the file names counts: one of this machine
    that is gone has left a stale lock. UserError where another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / FILE_NAME).open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _in_use(folder, _named(file)) from error
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        if not is_stale(_named(file)):
            raise _in_use(folder, _named(file)) from error
    file.truncate(0)
    file.write(f"{os.getpid()} on {os.uname().nodename}")
    file.flush()
    return file


def is_stale(holder: str) -> bool:
    """Whether "PID on HOST" names a process of this machine that is gone, or nobody."""
    pid, _, host = holder.partition(" on ")
    return not holder or (host == os.uname().nodename and not Path("/proc", pid).exists())


def _named(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip()


def _in_use(folder: Path, holder: str) -> UserError:
    return UserError(
        f"run.name: {folder} is in use by process {holder or 'unknown'}; wait for it, choose "
        f"another run.name, or remove {folder / FILE_NAME} if that process is gone"
    )
