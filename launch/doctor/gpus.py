"""The GPUs of this machine and how they reach one another."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.doctor.finding import Finding, fail, ok, warning

DRIVER = Path("/proc/driver/nvidia/version")
INFINIBAND = Path("/sys/class/infiniband")
TAKEN = 0.1
"""The share of a GPU's memory from which something else seems to run there."""


@dataclass(frozen=True)
class Gpu:
    """One device; memory in bytes, ``peers`` are the devices whose memory it reaches."""

    name: str
    capability: tuple[int, int]
    memory: int
    free: int
    peers: frozenset[int]


@dataclass(frozen=True)
class Accelerators:
    """What this machine computes on. ``links`` holds `nvidia-smi topo`'s words for the ways
    between GPUs, such as NV18 or SYS; ``nics`` InfiniBand's ports as (name, state, rate);
    ``kernels`` the compute capabilities that torch was built for.
    """

    gpus: tuple[Gpu, ...]
    cuda: str | None
    nccl: str | None
    has_driver: bool
    kernels: frozenset[tuple[int, int]] = frozenset()
    links: frozenset[str] = frozenset()
    nics: tuple[tuple[str, str, str], ...] = ()


def look() -> Accelerators:
    """What torch, the driver and the kernel say."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Accelerators(
        gpus=tuple(_gpu(number, count) for number in range(count)),
        cuda=torch.version.cuda,
        nccl=".".join(map(str, torch.cuda.nccl.version())) if count else None,  # type: ignore[no-untyped-call]
        has_driver=DRIVER.exists(),
        kernels=frozenset(map(capability, torch.cuda.get_arch_list())),
        links=links_in(_topology()) if count > 1 else frozenset(),
        nics=nics(INFINIBAND),
    )


def capability(kernel: str) -> tuple[int, int]:
    """(9, 0) of sm_90, as (10, 0) of sm_100 and (9, 0) of sm_90a."""
    digits = re.sub(r"\D", "", kernel)
    return int(digits[:-1]), int(digits[-1])


def _gpu(number: int, count: int) -> Gpu:
    import torch

    about = torch.cuda.get_device_properties(number)
    free, total = torch.cuda.mem_get_info(number)
    others = (other for other in range(count) if other != number)
    peers = frozenset(o for o in others if torch.cuda.can_device_access_peer(number, o))
    return Gpu(about.name, (about.major, about.minor), total, free, peers)


def _topology() -> str:
    if shutil.which("nvidia-smi") is None:
        return ""
    asked = ["nvidia-smi", "topo", "-m"]
    return subprocess.run(asked, capture_output=True, text=True, check=False, timeout=30).stdout


def links_in(topology: str) -> frozenset[str]:
    """The ways between GPUs in the table of ``nvidia-smi topo -m``."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", topology)
    lines = [line.split() for line in plain.splitlines()]
    rows = [line for line in lines if line and re.fullmatch(r"GPU\d+", line[0]) and "X" in line]
    return frozenset(word for row in rows for word in row[1 : len(rows) + 1] if word != "X")


def nics(folder: Path) -> tuple[tuple[str, str, str], ...]:
    """InfiniBand's and RoCE's ports under /sys/class/infiniband: name, state, rate."""
    return tuple(
        (f"{port.parent.parent.name}/{port.name}", _word(port / "state"), _word(port / "rate"))
        for port in sorted(folder.glob("*/ports/*"))
    )


def _word(path: Path) -> str:
    return path.read_text().split(":")[-1].strip() if path.exists() else "?"


def judge_gpus(seen: Accelerators) -> list[Finding]:
    """The GPUs, what they can do, and whether they are free."""
    if not seen.gpus:
        return [_without(seen)]
    names = sorted({gpu.name for gpu in seen.gpus})
    smallest = min(gpu.memory for gpu in seen.gpus) / 2**30
    found = f"{len(seen.gpus)} x {', '.join(names)}, {smallest:.0f} GiB, CUDA {seen.cuda}"
    findings = [ok("gpus", f"{found}, NCCL {seen.nccl}")]
    if len(names) > 1:
        mend = "choose like GPUs with CUDA_VISIBLE_DEVICES: all wait for the slowest"
        findings = [warning("gpus", found, mend)]
    foreign = sorted({gpu.name for gpu in seen.gpus if not _is_served(gpu, seen.kernels)})
    if foreign:
        found = f"this torch (CUDA {seen.cuda}) has no kernels for {', '.join(foreign)}"
        mend = "install a torch built for an older or a newer CUDA, or leave them out"
        findings.append(fail("kernels", found, f"{mend} with CUDA_VISIBLE_DEVICES"))
    if any(gpu.capability < (8, 0) for gpu in seen.gpus):
        findings.append(
            warning("bf16", "some GPUs are older than Ampere and have no bf16", "precision=fp32")
        )
    taken = [n for n, gpu in enumerate(seen.gpus) if gpu.free < (1 - TAKEN) * gpu.memory]
    if taken:
        mend = "end what runs there (nvidia-smi), or choose others with CUDA_VISIBLE_DEVICES"
        which = ", ".join(map(str, taken))
        findings.append(warning("gpu memory", f"GPU {which}: memory is in use", mend))
    return [*findings, *_between(seen)]


def _is_served(gpu: Gpu, kernels: frozenset[tuple[int, int]]) -> bool:
    """Kernels run on devices of their major version, of their minor one or a later."""
    major, minor = gpu.capability
    return not kernels or any(one == major and other <= minor for one, other in kernels)


def _without(seen: Accelerators) -> Finding:
    if not seen.has_driver:
        return ok("gpus", "none: runs train on the CPU")
    if seen.cuda is None:
        return fail("gpus", "torch is built without CUDA", "install torch from its CUDA index")
    return fail(
        "gpus",
        f"an NVIDIA driver is here but torch (CUDA {seen.cuda}) sees no GPU",
        "look at CUDA_VISIBLE_DEVICES and nvidia-smi; the driver may be too old for that CUDA",
    )


def _between(seen: Accelerators) -> list[Finding]:
    if len(seen.gpus) < 2:
        return []
    found = ", ".join(sorted(seen.links)) or "unknown"
    apart = any(len(gpu.peers) < len(seen.gpus) - 1 for gpu in seen.gpus)
    if apart:
        mend = "check the PCIe access control (ACS) and IOMMU settings; NCCL goes through memory"
        return [warning("between gpus", f"no peer access between some ({found})", mend)]
    return [ok("between gpus", f"peer access between all, by {found}")]


def judge_network(ports: Sequence[tuple[str, str, str]], memory_lock: int | None) -> list[Finding]:
    """InfiniBand's ports, where there are any; ``memory_lock`` in bytes, None for no limit."""
    if not ports:
        return []
    listed = "; ".join(f"{name} {state} {rate}" for name, state, rate in ports)
    down = [name for name, state, _ in ports if state != "ACTIVE"]
    findings = [ok("infiniband", listed)]
    if down:
        mend = "ask who runs the network, or leave them out with NCCL_IB_HCA"
        findings = [warning("infiniband", f"{', '.join(down)} not active", mend)]
    if memory_lock is not None:
        found = f"limited to {memory_lock >> 10} KiB, NCCL may not use InfiniBand"
        findings.append(warning("locked memory", found, "ulimit -l unlimited"))
    return findings
