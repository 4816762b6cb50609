"""``segue checkpoint``: ls, show, verify, diff and export."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from test_checkpoint import (
    SHAPES,
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


@pytest.mark.parametrize(
    ("dtype", "kind"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_export_merges_the_weights_into_one_file(
    dtype: str, kind: torch.dtype, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "model.safetensors"
    assert "3 tensors of step 4" in command("export", run, out, "--dtype", dtype)
    merged = load_file(out)
    assert {name: tuple(values.shape) for name, values in merged.items()} == SHAPES
    for name, values in merged.items():
        assert torch.equal(values.flatten(), full(4)[name]["master"].to(kind))
    with safe_open(out, framework="pt") as file:
        assert file.metadata()["step"] == "4"
    with pytest.raises(UserError, match="holds no averages"):
        command("export", run, out, "--ema")


PEAK = """
import resource, sys
from pathlib import Path
from pretrain.checkpoint.export import export
from pretrain.checkpoint.store import LocalStore, read_manifest
root, name, out = sys.argv[1:]
store = LocalStore(Path(root))
manifest = read_manifest(store, name)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
export(store, name, manifest, Path(out), dtype="fp32", ema=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_export_holds_one_parameter_in_memory(tmp_path: Path) -> None:
    large = {f"layer{number}.weight": (1 << 20,) for number in range(48)}  # 4 MiB each
    values = {name: {"master": torch.randn(shape)} for name, shape in large.items()}
    folder = save(tmp_path / "run", 1, 2, shapes=large, values=values)
    out = tmp_path / "model.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(folder.parent), folder.name, str(out)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stat().st_size > 48 * 4 * 2**20
    assert int(done.stdout) < 40 * 1024  # KiB
