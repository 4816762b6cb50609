"""What a node says of processes that failed, and passes on to those that train."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch.accelerate import accelerate_config, free_port, process_environment
from launch.failure import kept
from pretrain.stop import INTERRUPTED
from pretrain.zero import DeepSpeedConfig

TROUBLE = "import sys; print('deep trouble', file=sys.stderr)"
WAYS = {
    "raise SystemExit(2)": (2, ""),
    f"{TROUBLE}; raise SystemExit(7)": (1, ") ended with exit code 7"),
    f"{TROUBLE}; import os; os.kill(os.getpid(), 9)": (1, ") was ended by SIGKILL"),
    "import signal; signal.alarm(1); signal.pause()": (1, "hang says where each rank was"),
}
STOPPING = """
import os, signal
def stop(number, frame):
    os._exit(75)
signal.signal(signal.SIGUSR1, stop)
print("ready", flush=True)
while True:
    signal.pause()
"""


def node(script: str, folder: Path) -> subprocess.Popen[str]:
    """A node with one process that runs a script."""
    (folder / "script.py").write_text(script)
    zero = str(accelerate_config(DeepSpeedConfig(stage=2, offload="none")))
    words = ["--config_file", zero, "--num_processes", "1", "--main_process_port", str(free_port())]
    return subprocess.Popen(
        [sys.executable, "-m", "launch.node", str(folder), *words, str(folder / "script.py")],
        env={**os.environ, **process_environment(1, "cpu")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_failed_process_is_a_line_and_no_traceback(way: str, tmp_path: Path) -> None:
    process = node(way, tmp_path)
    _, errors = process.communicate(timeout=120)
    code, said = WAYS[way]
    assert process.returncode == code, errors
    assert said in errors and "ChildFailedError" not in errors
    failures = kept(tmp_path)
    assert len(failures) == 1
    if TROUBLE in way:
        assert failures[0].lines == ("deep trouble",)
        assert f"[rank 0 on {os.uname().nodename}] deep trouble" in errors


def test_a_signal_to_the_node_reaches_its_processes(tmp_path: Path) -> None:
    process = node(STOPPING, tmp_path)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, errors
    assert kept(tmp_path) == [] and not (tmp_path / "logs").exists()


def test_a_node_that_cannot_meet_the_others_says_where(tmp_path: Path) -> None:
    process = subprocess.run(
        [
            *(sys.executable, "-m", "launch.node", str(tmp_path)),
            *("--num_machines", "2", "--num_processes", "2", "--machine_rank", "1"),
            *("--main_process_ip", "no.such.host", "--main_process_port", "29500"),
            *("--use_deepspeed", "script.py"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 2
    assert "error: node 1 of 2 does not meet the others at no.such.host:29500" in (process.stderr)
