"""``segue checkpoint``: ls, show, verify and diff."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_checkpoint import (
    damage_flip,
    damage_unmark,
    full,
    save,
)
from typer.testing import CliRunner

from pretrain.checkpoint.cli import app
from shards.errors import UserError


def command(*words: object) -> str:
    """What it prints; a UserError is raised."""
    done = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "140"})
    if done.exception is not None:
        raise done.exception
    return done.output


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with checkpoints of steps 2, 4 and 6; the last one was never marked."""
    for step in (2, 4):
        save(tmp_path / "checkpoints", step, 2, seed=step)
    damage_unmark(save(tmp_path / "checkpoints", 6, 2))
    return tmp_path


def test_ls_lists_all_and_says_what_is_wrong(run: Path) -> None:
    lines = command("ls", run).splitlines()
    found = [line.split() for line in lines if "epoch_" in line]
    assert [words[0][-1] for words in found] == ["6", "4", "2"]
    assert [words[-1] for words in found] == ["missing", "committed", "committed"]
    with pytest.raises(UserError, match="has no checkpoints; name a run's folder"):
        command("ls", run / "nothing")


def test_show_tells_what_is_recorded(run: Path) -> None:
    told = command("show", run)
    numbers = f"{35 + 7 + 33} in 3 tensors"
    for text in ("epoch_00000_step_00000004", numbers, "exp_avg_sq, master", "2 by 2 ranks"):
        assert text in told
    with pytest.raises(UserError, match=r"not a committed checkpoint \(COMMITTED is missing\)"):
        command("show", run / "checkpoints" / "epoch_00000_step_00000006")


def test_verify_reads_every_byte(run: Path) -> None:
    folder = run / "checkpoints" / "epoch_00000_step_00000002"
    assert "all as it was saved" in command("verify", folder)
    damage_flip(folder)
    with pytest.raises(UserError, match=r"is damaged \(rank_00000_of_00002.safetensors has other"):
        command("verify", folder)


def test_diff_compares_components(run: Path) -> None:
    checkpoints = run / "checkpoints"
    told = command("diff", *(checkpoints / f"epoch_00000_step_0000000{n}" for n in (2, 4)))
    for component, names in {"a": ("a.weight", "a.bias"), "b": ("b.weight",)}.items():
        before = torch.cat([full(2)[name]["master"] for name in names])
        after = torch.cat([full(4)[name]["master"] for name in names])
        relative = float((after - before).norm() / before.norm())
        own = command(
            "diff", *(checkpoints / f"epoch_00000_step_0000000{n}" for n in (2, 4)), "--depth", 1
        )
        (line,) = [line for line in own.splitlines() if line.split()[:1] == [component]]
        assert float(line.split()[-1]) == pytest.approx(relative, rel=1e-3)
    assert "a.weight" in told and "b.weight" in told
