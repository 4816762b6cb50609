"""Freezing and thawing under every ZeRO stage: what `thaw_process.py` checks, in real processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from launch.accelerate import accelerate_config, cpu_environment, free_port, search_path
from pretrain.zero import DeepSpeedConfig

PROCESS = Path(__file__).with_name("thaw_process.py")


def test_what_is_frozen_stays_and_what_thaws_goes_on_in_every_stage(tmp_path: Path) -> None:
    config = accelerate_config(DeepSpeedConfig(stage=2, offload="none"))
    command = ["accelerate", "launch", "--config_file", str(config)]
    command += ["--num_processes", "2", "--main_process_port", str(free_port())]
    done = subprocess.run(
        [*command, str(PROCESS), str(tmp_path)],
        env={**os.environ, **cpu_environment(2), "PATH": search_path()},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("crossed stage") == 8
