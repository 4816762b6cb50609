"""Real runs with gloo and ZeRO on CPU, by `accelerate launch` as a user starts them or forked."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from run_server import Started

from launch.accelerate import launch_command, search_path
from pretrain.metrics.files import read_log
from pretrain.zero import DeepSpeedConfig

CONFIG = Path("configs/quickstart.yaml").resolve()
TINY = (
    "model.hidden_dim=32",
    "model.head=2",
    "model.n_layer=2",
    "batch.seconds=48",
    "batch.micro_seconds=12",
    "batch.buckets=4",
    "schedule.warmup_steps=4",
    "train.log_every=1",
)
PATIENCE = 240.0


@dataclass
class Run:
    """A run folder and how it is started: forked, or much slower by `accelerate launch`."""

    folder: Path
    shards: Path
    stage: int = 2
    processes: int = 2
    overrides: tuple[str, ...] = ()
    by_launcher: bool = False
    config: Path = CONFIG
    sizes: tuple[str, ...] = TINY
    output: str = field(default="", init=False)

    @property
    def arguments(self) -> list[str]:
        """The settings, as key=value."""
        return [
            f"data.path={self.shards}",
            f"run.dir={self.folder.parent}",
            f"run.name={self.folder.name}",
            "device=cpu",
            *self.sizes,
            *self.overrides,
        ]

    def start(self) -> subprocess.Popen[str] | Started:
        if not self.by_launcher:
            zero = zero_environment(self.stage)
            said = self.folder.with_name(f"{self.folder.name}.output")
            return Started([str(self.config), *self.arguments], self.processes, zero, said)
        settled = DeepSpeedConfig(stage=self.stage, offload="none")
        command = launch_command(
            self.config, self.arguments, processes=self.processes, device="cpu", zero=settled
        )
        return subprocess.Popen(
            command.arguments,
            env={**os.environ, **command.environment, "PATH": search_path()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def finish(self) -> int:
        """Run to the end; the exit code."""
        process = self.start()
        self.output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode is not None
        return process.returncode

    def kill_after(self, steps: int, *, saved: bool = False) -> None:
        """Start, and SIGKILL every process once `steps` steps are logged, and one is saved."""
        process = self.start()
        deadline = time.monotonic() + PATIENCE
        while len(self.log()) < steps or (saved and not self.committed()):
            if process.poll() is not None or time.monotonic() > deadline:
                self.kill(process)
                raise AssertionError(f"no step {steps}: {process.communicate()[0]}")
            time.sleep(0.01)
        self.kill(process)
        self.output, _ = process.communicate()

    def kill(self, process: subprocess.Popen[str] | Started) -> None:
        with suppress(ProcessLookupError):  # it has just ended
            os.killpg(process.pid, signal.SIGKILL)

    def wait_for_steps(self, steps: int, process: subprocess.Popen[str] | Started) -> None:
        """Wait until so many steps are logged; AssertionError where it ends before."""
        while len(self.log()) < steps:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)

    def committed(self) -> list[Path]:
        return list(self.folder.glob("checkpoints/*/COMMITTED"))

    def log(self) -> list[dict[str, float]]:
        return read_log(self.folder / "log.jsonl")

    def losses(self) -> list[float]:
        return [record["loss"] for record in self.log()]

    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "checkpoints").iterdir())


def children(pid: int) -> list[int]:
    """The processes that one started: a forked launcher's are the ranks, in their order."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def zero_environment(stage: int, offload: str = "none") -> dict[str, str]:
    """What `accelerate launch` says of ZeRO."""
    return {
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage),
        "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": offload,
    }


def run_script(
    script: Path,
    *arguments: str,
    processes: int = 2,
    stage: int = 2,
    offload: str = "none",
    environment: Mapping[str, str] | None = None,
) -> str:
    """What a script prints that so many processes run together; an AssertionError if it fails."""
    said = {**zero_environment(stage, offload), **(environment or {})}
    with tempfile.TemporaryDirectory() as folder:
        started = Started(arguments, processes, said, Path(folder), script)
        output, _ = started.communicate(PATIENCE)
    assert started.returncode == 0, output
    return output
