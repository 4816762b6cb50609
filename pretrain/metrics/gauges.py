"""Further figures of a step, read on rank 0. None of them waits for the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import psutil
import torch

from pretrain.metrics.peaks import peak_flops
from pretrain.metrics.record import StepRecord

EVERY = 10
"""Steps between readings of what costs more than a look into a table."""
WORKERS_EVERY = 1000
"""Steps between searches for this process's children: they look at all of the machine's."""
GB = 1e9


class Gauge(Protocol):
    """Tells something beside each step, by TensorBoard's names; nothing where it has nothing."""

    def read(self, record: StepRecord) -> Mapping[str, float]: ...


class DeviceMemory:
    """What torch's allocator holds on this rank's GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def read(self, record: StepRecord) -> Mapping[str, float]:
        """GB in use now and at most so far, GB held, and how often it had to give all back."""
        stats = torch.cuda.memory_stats(self._device)
        return {
            "memory/allocated_gb": stats.get("allocated_bytes.all.current", 0) / GB,
            "memory/peak_gb": stats.get("allocated_bytes.all.peak", 0) / GB,
            "memory/reserved_gb": stats.get("reserved_bytes.all.current", 0) / GB,
            "memory/alloc_retries": stats.get("num_alloc_retries", 0),
        }


class HostMemory:
    """The resident memory of this process and of its loader's; what they share counts in each."""

    def __init__(self) -> None:
        self._own = psutil.Process()
        self._workers: list[psutil.Process] = []
        self._reads = 0

    def read(self, record: StepRecord) -> Mapping[str, float]:
        """GB, one step in `EVERY`."""
        self._reads += 1
        if self._reads % EVERY != 1:
            return {}
        if self._reads % WORKERS_EVERY == 1:
            self._workers = self._own.children(recursive=True)
        workers = sum(resident(worker) for worker in self._workers)
        return {
            "memory/host_gb": resident(self._own) / GB,
            "memory/host_workers_gb": workers / GB,
        }


def resident(process: psutil.Process) -> int:
    """Bytes, 0 of a process that has ended."""
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


class Card:
    """What NVML says of this rank's GPU, where it answers."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._reads, self._silent = device, 0, False

    def read(self, record: StepRecord) -> Mapping[str, float]:
        """Percent of time in use, degrees Celsius and watts, one step in `EVERY`."""
        self._reads += 1
        if self._silent or self._reads % EVERY != 1:
            return {}
        try:
            return {
                "gpu/utilisation_percent": torch.cuda.utilization(self._device),
                "gpu/temperature_c": torch.cuda.temperature(self._device),
                "gpu/power_w": torch.cuda.power_draw(self._device) / 1000,
            }
        except Exception:  # no nvidia-ml-py, no right to ask, a part of a GPU: no figures
            self._silent = True
            return {}


class Computing:
    """How much all ranks compute, and what share that is of what their devices could."""

    def __init__(self, world_size: int, device_name: str | None) -> None:
        self._world_size = world_size
        self._peak = peak_flops(device_name) if device_name else None

    def read(self, record: StepRecord) -> Mapping[str, float]:
        """TFLOP/s; and the model FLOPs utilisation (Chowdhery et al. 2022, appendix B)."""
        if not record.flops:
            return {}
        rate = record.flops / record.seconds
        told = {"speed/tflops": rate / 1e12}
        if self._peak:
            told["speed/mfu"] = rate / (self._world_size * self._peak)
        return told


def gauges_of(device: torch.device, world_size: int) -> Sequence[Gauge]:
    """Those that suit the device."""
    if device.type != "cuda":
        return (HostMemory(), Computing(world_size, None))
    name = torch.cuda.get_device_name(device)
    return (DeviceMemory(device), HostMemory(), Card(device), Computing(world_size, name))
