"""The engine under every ZeRO stage: what `engine_process.py` checks, in two real processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from distributed_runs import run_script

from launch.accelerate import accelerate_config, free_port, process_environment, search_path
from pretrain.zero import DeepSpeedConfig

STAGE_2 = DeepSpeedConfig(stage=2, offload="none")
PROCESS = Path(__file__).with_name("engine_process.py")


def losses(stage: int, precision: str, offload: str) -> list[float]:
    arguments = (str(stage), precision, offload)
    return printed(run_script(PROCESS, *arguments, stage=stage, offload=offload))


def printed(output: str) -> list[float]:
    (line,) = [line for line in output.splitlines() if line.startswith("losses")]
    return [float(word) for word in line.split()[1:]]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Losses in stage 2, of processes that had nothing to compile."""
    operators = tmp_path_factory.mktemp("operators")
    command = ["accelerate", "launch", "--config_file", str(accelerate_config(STAGE_2))]
    command += ["--num_processes", "2", "--main_process_port", str(free_port())]
    own = {"PATH": search_path(), "TORCH_EXTENSIONS_DIR": str(operators)}
    done = subprocess.run(
        [*command, str(PROCESS), "2", "fp32", "none"],
        env={**os.environ, **process_environment(2, "cpu"), **own},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(operators.iterdir())
    return printed(done.stdout)


@pytest.mark.parametrize(
    ("stage", "precision", "offload", "tolerance"),
    [
        (1, "fp32", "none", 1e-5),
        (3, "fp32", "none", 1e-5),
        (1, "bf16", "none", 2e-2),
        (2, "bf16", "none", 2e-2),
        (3, "bf16", "cpu", 2e-2),
    ],
)
def test_every_stage_trains_alike_and_shows_its_state_by_name(
    stage: int, precision: str, offload: str, tolerance: float, reference: list[float]
) -> None:
    assert losses(stage, precision, offload) == pytest.approx(reference, rel=tolerance)
