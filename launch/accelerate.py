"""The ``accelerate launch`` command that starts a run."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from pretrain.zero import DeepSpeedConfig, accelerate_file

LAUNCHER = ("accelerate", "launch")
JOIN_SECONDS = 600
"""How long a node waits for the others."""


@dataclass(frozen=True)
class Command:
    """A program with its arguments and the environment it needs beside the caller's."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """A line that can be pasted into a shell."""
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*settings, shlex.join(self.arguments)])


@dataclass(frozen=True)
class Meeting:
    """Several nodes that train one run, and where they meet.

    ``rank`` is this node's; node 0 listens on ``port`` of ``head``, a name or address of its own
    that the others reach it by.
    """

    nodes: int
    rank: int
    head: str
    port: int

    def arguments(self) -> tuple[str, ...]:
        """What accelerate launch is told of it."""
        place = ("--main_process_ip", self.head, "--main_process_port", str(self.port))
        if self.nodes == 1:
            return place
        wait = f"join_timeout={JOIN_SECONDS},read_timeout={JOIN_SECONDS}"
        return (
            *("--num_machines", str(self.nodes), "--machine_rank", str(self.rank)),
            *place,
            *("--rdzv_backend", "c10d", "--rdzv_conf", f"is_host={int(self.rank == 0)},{wait}"),
            *("--deepspeed_multinode_launcher", "standard"),
        )


def launch_words(
    accelerate_file: str | Path, processes: int, meeting: Meeting, program: Sequence[str]
) -> tuple[str, ...]:
    """What accelerate launch is told to run ``program`` in ``processes`` processes of each node."""
    return (
        *("--config_file", str(accelerate_file)),
        *("--num_processes", str(processes * meeting.nodes)),
        *meeting.arguments(),
        *program,
    )


def launch_command(
    config: Path,
    overrides: Sequence[str],
    *,
    processes: int,
    device: str,
    zero: DeepSpeedConfig,
    meeting: Meeting | None = None,
) -> Command:
    """The command that trains ``config`` in ``processes`` processes on this machine.

    With a ``meeting`` the machine is one of several, each with so many.
    """
    meeting = meeting or Meeting(1, 0, "127.0.0.1", free_port())
    program = ("-m", "pretrain", str(config), *overrides)
    words = launch_words(accelerate_config(zero), processes, meeting, program)
    return Command((*LAUNCHER, *words), process_environment(processes, device))


def accelerate_config(zero: DeepSpeedConfig) -> Path:
    """The file in configs/accelerate for a settled ZeRO stage, relative where that is shorter."""
    path = Path(str(files("configs") / "accelerate" / accelerate_file(zero)))
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def process_environment(processes: int, device: str) -> dict[str, str]:
    """What so many processes of a machine get: a share of its cores each, with which the host works
    beside a GPU too (updates, where states are offloaded), and on a CPU DeepSpeed's name for it.

    In a job the cores are those that SLURM gives it on this node.
    """
    cores = int(os.environ.get("SLURM_CPUS_PER_TASK") or os.cpu_count() or 1)
    environment = {
        "OMP_NUM_THREADS": str(max(1, cores // processes)),
        # Threads that spin while they wait take the cores from the loader's processes.
        "OMP_WAIT_POLICY": "passive",
    }
    return {**environment, "DS_ACCELERATOR": "cpu"} if device == "cpu" else environment


def free_port() -> int:
    """A TCP port that nothing listens on, so that several runs fit on one machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def search_path() -> str:
    """PATH with this interpreter's folder first: the accelerate that belongs to it is found."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
