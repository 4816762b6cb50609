"""The command line as a user meets it: real processes, their output and exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.accelerate import search_path

CONFIG = "configs/quickstart.yaml"
ROOT = Path(__file__).parents[2]


def segue(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["segue", *arguments],
        cwd=ROOT,
        env={**os.environ, "PATH": search_path(), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def assert_one_sentence(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    (line,) = [text for text in result.stderr.splitlines() if text.strip()]
    assert line.startswith("error: ")
    for word in words:
        assert word in line


def test_help_needs_no_heavy_library() -> None:
    script = (
        "import sys; from launch.main import app\n"
        "heavy = {'torch', 'pyarrow', 'numpy', 'pydantic', 'omegaconf', 'webdataset'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
    assert segue("--help").returncode == 0


@pytest.mark.parametrize("package", ["shards", "pretrain", "slurm"])
def test_each_room_has_a_door_of_its_own(package: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", package, "--help"], cwd=ROOT, capture_output=True, check=False
    )
    assert result.returncode == 0


def test_a_missing_shard_folder_is_one_sentence() -> None:
    result = segue("launch", CONFIG, "data.path=/nowhere")
    assert_one_sentence(result, "data.path", "/nowhere", "segue shards pack")


def test_a_wrong_key_is_one_sentence_with_the_nearest() -> None:
    result = segue("launch", CONFIG, "train.stepz=3")
    assert_one_sentence(result, "train.stepz", "did you mean train.steps?")


def test_a_budget_below_the_longest_clip_is_one_sentence(token_shards: Path) -> None:
    result = segue("launch", CONFIG, f"data.path={token_shards}", "batch.micro_seconds=2")
    assert_one_sentence(result, "batch.micro_seconds=2", "longest clip")


def test_a_number_of_processes_that_does_not_divide_lists_those_that_do(
    token_shards: Path,
) -> None:
    result = segue("launch", CONFIG, f"data.path={token_shards}", "--nproc", "3")
    assert_one_sentence(result, "3 processes", "1, 2, 4")


def test_a_gpu_that_is_not_there_is_one_sentence(token_shards: Path) -> None:
    result = segue(
        "launch", CONFIG, f"data.path={token_shards}", "device=cuda", CUDA_VISIBLE_DEVICES=""
    )
    assert_one_sentence(result, "device=cuda", "device=cpu")


def test_stats_of_no_shards_is_one_sentence(tmp_path: Path) -> None:
    assert_one_sentence(segue("shards", "stats", str(tmp_path)), "holds no index.arrow")


def test_stats_show_hours_and_clips(token_shards: Path) -> None:
    result = segue("shards", "stats", str(token_shards))
    assert result.returncode == 0
    assert "120" in result.stdout and "hours" in result.stdout


def test_pretraining_without_a_launcher_says_a_mistake_the_same_way() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pretrain", CONFIG, "data.path=/nowhere"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert_one_sentence(result, "/nowhere")


def test_a_second_process_leaves_a_mistake_to_the_first_and_says_it_only_if_that_stays() -> None:
    second = {**os.environ, "RANK": "1", "LOCAL_RANK": "1"}
    command = [sys.executable, "-m", "pretrain", CONFIG, "data.path=/nowhere"]
    ended, left = (
        subprocess.Popen(command, cwd=ROOT, env=second, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    )
    while ended.poll() is None:  # it catches the signal from some moment on
        if catches(ended.pid, signal.SIGTERM):
            ended.terminate()
        time.sleep(0.1)
    assert ended.communicate()[1] == "" and ended.returncode == 2
    assert "/nowhere" in left.communicate(timeout=60)[1] and left.returncode == 2
