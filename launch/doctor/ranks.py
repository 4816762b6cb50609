"""Starts processes that measure one another, and judges what they found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from launch.accelerate import Meeting
from launch.doctor.finding import Finding, fail, ok, warning

if TYPE_CHECKING:
    from launch.doctor.exchange import Exchange

PATIENCE = 150.0
"""Seconds until processes that do not end are ended."""
LEAST = {"gloo": 50e6, "nccl": 5e9}
LEAST_BETWEEN_NODES = {"gloo": 50e6, "nccl": 1e9}
"""Bytes a second that an all-reduce should move."""
APART, FAR_APART = 1.0, 900.0
"""Seconds between clocks: logs are hard to read; object stores refuse requests."""
INTERFACES = "NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME name the network card to use"


def check_ranks(processes: int, meeting: Meeting, device: str) -> list[Finding]:
    """All-reduce and clocks of so many processes on each machine of ``meeting``."""
    found = exchanged(processes, meeting, device)
    if isinstance(found, str):
        return [fail("all-reduce", found, f"open the ports between the machines; {INTERFACES}")]
    return [*judge_sums(found), *judge_clocks(found)]


def exchanged(processes: int, meeting: Meeting, device: str) -> Exchange | str:
    """What this machine's processes measured with all others, or why they did not."""
    from launch.doctor.exchange import Exchange

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "exchange.json"
        errors = [Path(folder) / f"{rank}.err" for rank in range(processes)]
        children = [
            _start(local, processes, meeting, (str(file), device), said)
            for local, said in enumerate(errors)
        ]
        stuck = _wait(children)
        failed = next((n for n, child in enumerate(children) if child.returncode), None)
        if failed is not None or not file.exists():
            return _why(stuck, errors[failed or 0].read_text(encoding="utf-8", errors="replace"))
        facts = json.loads(file.read_text(encoding="utf-8"))
    return Exchange(**{**facts, "hosts": tuple(facts["hosts"]), "clocks": tuple(facts["clocks"])})


def _start(
    local: int, processes: int, meeting: Meeting, words: tuple[str, ...], said: Path
) -> subprocess.Popen[bytes]:
    place = {
        "RANK": meeting.rank * processes + local,
        "WORLD_SIZE": meeting.nodes * processes,
        "LOCAL_RANK": local,
        "MASTER_ADDR": meeting.head,
        "MASTER_PORT": meeting.port,
    }
    environment = {**os.environ, **{name: str(value) for name, value in place.items()}}
    with said.open("wb") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "launch.doctor.exchange", *words],
            env=environment,
            stdout=errors,
            stderr=errors,
        )


def _wait(children: list[subprocess.Popen[bytes]]) -> bool:
    """Wait for all, and end the others once one has failed; whether time ran out."""
    deadline = time.monotonic() + PATIENCE
    while any(child.poll() is None for child in children):
        late = time.monotonic() > deadline
        if late or any(child.poll() for child in children):
            for child in children:
                child.kill()
                child.wait()
            return late
        time.sleep(0.05)
    return False


def _why(stuck: bool, said: str) -> str:
    if stuck:
        return f"the processes did not end within {PATIENCE:.0f} s"
    lines = [line for line in said.splitlines() if line.strip()]
    return f"a process ended: {lines[-1].strip() if lines else 'it said nothing'}"


def judge_sums(found: Exchange) -> list[Finding]:
    """Whether ranks add up rightly, and how fast."""
    nodes = len(set(found.hosts))
    of = f"{found.backend}, {len(found.hosts)} processes on {nodes} machine(s)"
    if not found.correct:
        mend = "update the GPU driver or try NCCL_P2P_DISABLE=1; sums between ranks are wrong"
        return [fail("all-reduce", f"{of}: a sum was wrong", mend)]
    if len(found.hosts) == 1:
        return [ok("all-reduce", f"{of}: nothing to exchange")]
    speed = (
        f"{of}: {found.bandwidth / 1e9:.2f} GB/s with {found.size >> 20} MiB, "
        f"{found.latency * 1e6:.0f} us with one number"
    )
    least = (LEAST_BETWEEN_NODES if nodes > 1 else LEAST)[found.backend]
    if found.bandwidth < least:
        return [warning("all-reduce", speed, f"expected {least / 1e9:g} GB/s; {INTERFACES}")]
    return [ok("all-reduce", speed)]


def judge_clocks(found: Exchange) -> list[Finding]:
    """How far the machines' clocks are apart."""
    if len(found.hosts) == 1:
        return []
    apart = max(found.clocks) - min(found.clocks)
    said = f"{apart * 1000:.1f} ms apart"
    if apart <= APART:
        return [ok("clocks", said)]
    furthest = max(zip(found.clocks, found.hosts, strict=True), key=lambda one: abs(one[0]))[1]
    mend = f"let chrony or ntpd set the clocks ({furthest} is furthest from rank 0's)"
    return [(fail if apart > FAR_APART else warning)("clocks", f"{apart:.1f} s apart", mend)]
