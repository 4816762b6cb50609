"""What one world size and ZeRO stage has saved, every other restores, in real processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from launch.accelerate import accelerate_config, cpu_environment, free_port, search_path
from pretrain.zero import DeepSpeedConfig

PROCESS = Path(__file__).with_name("elastic_process.py")


def run(work: str, folder: Path, processes: int) -> str:
    config = accelerate_config(DeepSpeedConfig(stage=2, offload="none"))
    command = ["accelerate", "launch", "--config_file", str(config)]
    command += ["--num_processes", str(processes), "--main_process_port", str(free_port())]
    done = subprocess.run(
        [*command, str(PROCESS), work, str(folder)],
        env={**os.environ, **cpu_environment(processes), "PATH": search_path()},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of every stage, from two processes, and the losses of the steps after them."""
    folder = tmp_path_factory.mktemp("saved")
    run("save", folder, 2)
    return folder


@pytest.mark.parametrize(
    "processes",
    [3, *(pytest.param(count, marks=pytest.mark.slow) for count in (1, 2, 4))],
)
def test_every_stage_restores_what_any_stage_saved_and_goes_on_alike(
    processes: int, saved: Path
) -> None:
    assert "pairs 37" in run("load", saved, processes)
