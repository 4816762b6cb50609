"""One run at a time in a run folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from shards.errors import UserError

FILE_NAME = ".lock"


def hold(folder: Path) -> IO[str]:
    """Lock ``folder`` until the returned file is closed or this process ends, however it ends.

    UserError where another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / FILE_NAME).open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise UserError(
            f"run.name: {folder} is in use by process {file.read().strip() or 'unknown'}; wait "
            "for it or choose another run.name"
        ) from error
    file.truncate(0)
    file.write(f"{os.getpid()} on {os.uname().nodename}")
    file.flush()
    return file
