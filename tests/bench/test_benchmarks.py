"""The benchmarks can be started: all are imported, and those of training run small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent
SMALL = ("model.hidden_dim=64", "model.head=2", "model.n_layer=2")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False
    )


def test_every_benchmark_can_be_imported() -> None:
    names = [path.stem for path in BENCH.glob("*.py") if not path.stem.startswith("test_")]
    assert names
    lines = [f"import sys; sys.path.insert(0, {str(BENCH)!r})"]
    for name in names:  # what only `pip install segue-speech[bench]` brings may lack
        lines += ["try:", f"    import {name}", "except ModuleNotFoundError as error:"]
        lines += ["    assert error.name == 'cpuinfo', error"]
    done = run("-c", "\n".join(lines))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_loop_is_timed_against_bare_loops(tmp_path: Path) -> None:
    done = run(str(BENCH / "overhead.py"), str(tmp_path), *SMALL, "--steps", "5")
    assert done.returncode == 0, done.stderr
    assert "2 steps of each, in turn" in done.stdout


@pytest.mark.slow
def test_the_benchmark_of_a_gpu_is_tried_on_a_cpu(tmp_path: Path) -> None:
    done = run(str(BENCH / "gpu.py"), str(tmp_path), "--tiny", "--steps", "2")
    assert done.returncode == 0, done.stderr
    assert "dense masks" in done.stdout
