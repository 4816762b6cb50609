"""What processes measure of one another: ``python -m launch.doctor.exchange FILE DEVICE``.

The environment tells each its place as torchrun does; the first process of each machine writes
FILE.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from pretrain.processes import end_process
from shards.processes import die_with_parent

PATIENCE = 60.0
"""Seconds in which all processes must have met."""
ROUNDS = 5
PINGS = 10
SIZES = {"cpu": 16 << 20, "cuda": 256 << 20}
"""Bytes of the large all-reduce."""


@dataclass(frozen=True)
class Exchange:
    """What came of it. ``hosts`` and ``clocks`` are by rank; a clock is its seconds ahead of rank
    0's. ``size`` is in bytes; ``seconds`` and ``latency`` are of a large and a small all-reduce.
    """

    backend: str
    hosts: tuple[str, ...]
    clocks: tuple[float, ...]
    correct: bool
    size: int
    seconds: float
    latency: float

    @property
    def bandwidth(self) -> float:
        """Bus bandwidth in bytes a second: 2 (n - 1) / n of the size over the time (nccl-tests)."""
        ranks = len(self.hosts)
        return 2 * (ranks - 1) / ranks * self.size / self.seconds


def measure(device: str) -> Exchange:
    """Join the other processes and measure; the same on every rank."""
    local = int(os.environ["LOCAL_RANK"])
    place = torch.device("cuda", local) if device == "cuda" else torch.device("cpu")
    if device == "cuda":
        torch.cuda.set_device(place)
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=PATIENCE))
    by_host = dist.new_group(backend="gloo", timeout=timedelta(seconds=PATIENCE))
    size = SIZES[device]
    own: tuple[object, ...] = (
        socket.gethostname(),
        is_right(place),
        reduced_in(torch.zeros(size // 4, device=place)),
        reduced_in(torch.zeros(1, device=place)),
        clocks(by_host),
    )
    everyone: list[tuple[object, ...]] = [()] * dist.get_world_size()
    dist.all_gather_object(everyone, own, group=by_host)
    hosts, right, seconds, latency, ahead = zip(*everyone, strict=True)
    return Exchange(backend, hosts, tuple(ahead[0]), all(right), size, max(seconds), max(latency))


def is_right(place: torch.device) -> bool:
    """Whether a sum over all ranks is what it must be."""
    ranks = dist.get_world_size()
    values = torch.arange(100_000, device=place, dtype=torch.float32) % 1000
    wanted = values * (ranks * (ranks + 1) // 2)
    values *= dist.get_rank() + 1
    dist.all_reduce(values)
    return bool((values == wanted).all())


def reduced_in(values: torch.Tensor) -> float:
    """Seconds of an all-reduce: the median of some, after one to warm up."""
    took = []
    for _ in range(ROUNDS + 1):
        begin = time.perf_counter()
        dist.all_reduce(values)
        if values.is_cuda:
            torch.cuda.synchronize(values.device)
        took.append(time.perf_counter() - begin)
    return statistics.median(took[1:])


def clocks(group: dist.ProcessGroup) -> list[float]:
    """On rank 0: how many seconds each rank's clock is ahead, by the quickest of some pings."""
    rank, ahead = dist.get_rank(), [0.0]
    note = torch.zeros(1, dtype=torch.float64)
    for other in range(1, dist.get_world_size()):
        if rank == other:
            for _ in range(PINGS):
                dist.recv(note, 0, group=group)
                dist.send(torch.tensor([time.time()], dtype=torch.float64), 0, group=group)
        if rank == 0:
            ahead.append(min(_ping(note, other, group) for _ in range(PINGS))[1])
    return ahead


def _ping(note: torch.Tensor, other: int, group: dist.ProcessGroup) -> tuple[float, float]:
    """The way there and back in seconds, and how far the other clock is ahead (NTP's formula)."""
    sent = time.time()
    dist.send(note, other, group=group)
    dist.recv(note, other, group=group)
    back = time.time()
    return back - sent, float(note) - (sent + back) / 2


def main() -> None:
    """One process."""
    die_with_parent()
    torch.set_num_threads(1)
    file, device = sys.argv[1:]
    exchange = measure(device)
    if os.environ["LOCAL_RANK"] == "0":
        Path(file).write_text(json.dumps(asdict(exchange)), encoding="utf-8")
    dist.barrier()
    end_process(0)


if __name__ == "__main__":
    main()
