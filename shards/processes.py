"""Manners of worker processes."""

from __future__ import annotations

import ctypes
import signal

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """Have this process killed when its parent ends, however it ends (Linux).

    A parent that is killed would otherwise leave processes behind that write into the same files
    as those of its next start.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
