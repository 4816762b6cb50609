"""A run that is killed, at any moment of a save, loses nothing that was committed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from distributed_runs import CONFIG, TINY, Run

from pretrain.metrics.files import read_log

KILLER = Path(__file__).with_name("killed_run.py")
EVERY = 1
MOMENTS = (
    "0:write",
    "1:write",
    "0:manifest",
    "0:rename",
    "0:marker",
    "0:commit",
    "0:prune",
    "0:removal",
    "0:clear",
)
SETTINGS = (
    "precision=fp32",
    "device=cpu",
    "schedule.name=constant",
    "model.dropout=0.1",
    "train.steps=100000",
    f"checkpoint.every={EVERY}",
    "data.workers=0",
    "data.threads=0",
)


def killed(moments: Sequence[str], token_shards: Path, folder: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    where = (f"data.path={token_shards}", f"run.dir={folder}", "run.name=killed")
    arguments = [str(CONFIG), *TINY, *SETTINGS, *where]
    done = subprocess.run(
        [sys.executable, str(KILLER), ",".join(moments), str(seed), *arguments],
        capture_output=True,
        text=True,
        timeout=60 + 20 * len(moments),
        check=False,
    )
    output = folder / "killed" / "output.txt"
    told = f"seed {seed}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, told
    told += output.read_text()[-4000:]
    *rounds, end = [json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{"]
    assert [found["moment"] for found in rounds] == list(moments), told
    for found in rounds:
        # Of the save under way and the one before it, it is the latter at worst.
        assert found["saved"] >= found["logged"] - 2 * EVERY, told
    for line in output.read_text().splitlines():
        assert "damaged" not in line or line.endswith("COMMITTED is missing"), told

    whole = Run(
        folder / "whole", token_shards, overrides=(*SETTINGS, f"train.steps={end['target']}")
    )
    assert whole.finish() == 0, whole.output
    cut = read_log(folder / "killed" / "log.jsonl")
    assert [record["step"] for record in cut] == list(range(1, end["target"] + 1))
    assert [record["loss"] for record in cut] == whole.losses()


def test_kills_at_every_phase_of_a_save(token_shards: Path, tmp_path: Path) -> None:
    killed(MOMENTS, token_shards, tmp_path)


def test_kills_at_random_moments(token_shards: Path, tmp_path: Path) -> None:
    killed(["random"] * 11, token_shards, tmp_path)


@pytest.mark.slow
def test_a_hundred_kills(token_shards: Path, tmp_path: Path) -> None:
    killed([*MOMENTS * 3, *["random"] * 73], token_shards, tmp_path)
