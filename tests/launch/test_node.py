"""What a node says of processes that failed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.accelerate import accelerate_config, cpu_environment, free_port
from pretrain.zero import DeepSpeedConfig

WAYS = {
    "raise SystemExit(2)": (2, ""),
    "raise SystemExit(7)": (1, "ended with exit code 7"),
    "import os; os.kill(os.getpid(), 9)": (1, "was ended by SIGKILL"),
    "": (0, ""),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_failed_process_is_a_line_and_no_traceback(way: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(way)
    zero = str(accelerate_config(DeepSpeedConfig(stage=2, offload="none")))
    words = ["--config_file", zero, "--num_processes", "1", "--main_process_port", str(free_port())]
    done = subprocess.run(
        [sys.executable, "-m", "launch.node", str(tmp_path), *words, str(script)],
        env={**os.environ, **cpu_environment(1)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    code, said = WAYS[way]
    assert done.returncode == code, done.stderr
    assert said in done.stderr and "ChildFailedError" not in done.stderr
