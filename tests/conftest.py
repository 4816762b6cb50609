"""Options and fixtures that several rooms' tests share."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from experiment_corpus import write_experiment

GOLDENS = Path(__file__).parent / "golden"
SOUND_RATE = 22_050
# Before torch is imported: its threads are not to spin while they wait. Several processes share
# the cores, and a test of one second would take forty.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--goldens", default=str(GOLDENS), help="folder of oracle files for tests/golden"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; run it with `make test-slow`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "slow" in config.getoption("-m"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run it with `make test-slow`"))


@pytest.fixture(scope="session")
def token_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of shards with 120 clips of 1 to 8 s of tokens."""
    from shards.pack.config import PackConfig
    from shards.pack.job import pack

    root = tmp_path_factory.mktemp("tokens")
    source = write_experiment(root / "experiment", clips=120)
    pack(source, root / "shards", PackConfig(shard_hours=0.02), workers=2)
    return root / "shards"


@pytest.fixture(scope="session")
def voiced_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of shards with 48 sounds of 0.6 to 2.4 s and all that Seed-VC wants."""
    from shards.pack.config import PackConfig
    from shards.pack.job import pack

    root, chance = tmp_path_factory.mktemp("voiced"), np.random.default_rng(0)
    (root / "sounds").mkdir()
    for number in range(48):
        time = np.arange(round(SOUND_RATE * chance.uniform(0.6, 2.4))) / SOUND_RATE
        tone = 0.3 * np.sin(2 * np.pi * chance.uniform(100, 400) * time)
        noise = 0.02 * chance.standard_normal(len(time))
        soundfile.write(root / "sounds" / f"clip_{number:02d}.wav", tone + noise, SOUND_RATE)
    config = PackConfig(features=("content.mfcc", "style.mean_mel"), shard_hours=0.005)
    pack(root / "sounds", root / "shards", config, workers=0)
    return root / "shards"


@pytest.fixture
def disk_of(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a disk of a size such as ``400k`` and gives its folder."""
    disk = tmp_path / "disk"

    def mounted(size: str) -> Path:
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("needs a small disk: run as root where mount is allowed")
        return disk

    yield mounted
    if disk.is_mount():
        subprocess.run(["umount", str(disk)], check=True)
