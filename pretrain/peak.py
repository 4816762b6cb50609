"""The most memory that a piece of work takes on its device."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # see proc(5), clear_refs


class Peak:
    """Memory of this process from the moment this is made.

    On a GPU it is what torch has allocated, on a CPU what is resident. Memory that is free but
    kept is given back first.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
        else:
            ctypes.CDLL(None).malloc_trim(0)
            with suppress(OSError):  # /proc may be read-only: then it is the most since the start
                _CLEAR.write_text(_RESET_PEAK)
            self.before = resident("VmRSS")

    @property
    def bytes(self) -> int:
        """The most at any moment since."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return resident("VmHWM")

    @property
    def growth(self) -> int:
        """The most beyond what there was at first."""
        return max(0, self.bytes - self.before)


def lacks_memory(error: RuntimeError) -> bool:
    """Whether it says that memory does not suffice: only torch's own allocator has a class for it.

    The others are those of a CPU, of CUDA and of its libraries' workspaces.
    """
    words = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


def resident(field: str) -> int:
    """``VmRSS``, what this process has in memory, or ``VmHWM``, the most that it had; bytes."""
    for line in _STATUS.read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) * 1024
    raise LookupError(field)
