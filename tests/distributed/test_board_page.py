"""What a browser shows of a finished run's TensorBoard."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from distributed_runs import Run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from launch.accelerate import free_port
from pretrain.metrics.layout import LAYOUT

GROUPS = {"train", "validation", "optimizer", "health", "data", "curriculum", "speed", "ranks"}
PATIENCE = 120.0
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--window-size=1600,2400", "--virtual-time-budget=10000", "--dump-dom"),
)
TITLE = re.compile(r'class="group-title" title="([^"]+)"')


@pytest.fixture
def chromium() -> str:
    """Skips where there is none; fails where REQUIRE_CHROMIUM is set, as CI does."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        why = "needs a browser: apt-get install chromium"
        (pytest.fail if os.environ.get("REQUIRE_CHROMIUM") else pytest.skip)(why)
    return found


@contextmanager
def served(board: Path) -> Iterator[str]:
    """TensorBoard over a folder; its address."""
    address = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "tensorboard.main", "--load_fast=false"]
    port = address.rpartition(":")[2]
    process = subprocess.Popen(
        [*command, "--logdir", str(board), "--host", "127.0.0.1", "--port", port],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and process.poll() is None:
            asked = f"{address}/data/plugin/scalars/tags"
            with suppress(OSError), urlopen(asked, timeout=5) as answer:
                if b"train/loss" in answer.read():
                    break
            time.sleep(0.1)
        yield address
    finally:
        process.kill()
        process.wait()


def rendered(chromium: str, address: str, profile: Path) -> str:
    """The page's elements once its scripts have run and fetched what they show."""
    return subprocess.run(
        [chromium, *FLAGS, f"--user-data-dir={profile}", address],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    ).stdout


@pytest.fixture(scope="module")
def board(token_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    held_out = f"validation.sources=[{{path: {token_shards}, name: old}}]"
    run = Run(
        tmp_path_factory.mktemp("board") / "demo",
        token_shards,
        overrides=("train.steps=4", "checkpoint.every=4", "precision=fp32", held_out),
    )
    assert run.finish() == 0, run.output
    return run.folder / "tensorboard"


def test_custom_scalars_has_our_charts(board: Path) -> None:
    with (
        served(board) as address,
        urlopen(f"{address}/data/plugin/custom_scalars/layout", timeout=PATIENCE) as answer,
    ):
        categories = json.load(answer)["category"]
    shown = {one["title"]: [chart["title"] for chart in one["chart"]] for one in categories}
    assert shown == {name: [*charts] for name, charts in LAYOUT.items()}


def test_the_page_of_scalars_shows_a_run_s_curves_in_their_groups(
    chromium: str, board: Path, tmp_path: Path
) -> None:
    events = EventAccumulator(str(board)).Reload()
    tags = [*events.Tags()["scalars"], *events.Tags()["images"]]
    with served(board) as address:
        shown = TITLE.findall(rendered(chromium, address, tmp_path / "profile"))
    assert set(shown) == {tag.split("/")[0] for tag in tags}
    assert set(shown) >= GROUPS
