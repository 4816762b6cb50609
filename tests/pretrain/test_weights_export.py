"""``segue export``: a checkpoint's weights for other programs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from test_checkpoint import SHAPES, full, save
from torch import Tensor
from typer.testing import CliRunner
from upstream_files import TINY, s1_state, save_s1_release, upstream_yaml

from launch.main import app
from pretrain.models.gpt_sovits_s1.config import S1Config
from pretrain.models.gpt_sovits_s1.model import S1
from pretrain.weights.read import read_weights
from shards.errors import UserError

GOLDEN_KEYS = Path(__file__).parents[1] / "golden" / "s1_keys.json"


def command(*words: object) -> str:
    """What it prints; a UserError is raised."""
    done = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "160"})
    if done.exception is not None:
        raise done.exception
    return done.output


def s1_checkpoint(
    root: Path, state: Mapping[str, Tensor], model: S1Config = TINY, **config: Any
) -> Path:
    """A checkpoint of two ranks with the given weights and what a run records."""
    values = {name: {"master": tensor.float().flatten()} for name, tensor in state.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    recorded = {"model": model.model_dump(mode="json"), **config}
    return save(root, 150, 2, shapes=shapes, values=values, recorded=recorded)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with checkpoints of steps 2 and 4."""
    for step in (2, 4):
        save(tmp_path / "checkpoints", step, 2, seed=step)
    return tmp_path


@pytest.mark.parametrize(
    ("dtype", "kind"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_safetensors_hold_the_merged_weights(
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
from pretrain.weights.read import read_weights
from pretrain.weights.safetensors_write import export
place, out = sys.argv[1:]
weights = read_weights(place)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
export(weights, Path(out), "fp32")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_safetensors_need_memory_for_one_parameter(tmp_path: Path) -> None:
    large = {f"layer{number}.weight": (1 << 20,) for number in range(48)}  # 4 MiB each
    values = {name: {"master": torch.randn(shape)} for name, shape in large.items()}
    folder = save(tmp_path / "run", 1, 2, shapes=large, values=values)
    out = tmp_path / "model.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(folder), str(out)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stat().st_size > 48 * 4 * 2**20
    assert int(done.stdout) < 40 * 1024  # KiB


def test_a_release_has_upstreams_layout(tmp_path: Path) -> None:
    state = s1_state()
    folder = s1_checkpoint(tmp_path / "run", state, data={"max_seconds": 30.0})
    told = command("export", folder, tmp_path / "out" / "a.ckpt", "--to", "gpt-sovits-s1")
    assert f"{len(state)} tensors of step 150, epoch 15, gpt-sovits-s1, fp16" in told
    saved = torch.load(tmp_path / "out" / "a.ckpt", weights_only=True)
    assert list(saved) == ["weight", "config", "info"] and saved["info"] == "GPT-e15"
    assert list(saved["weight"]) == [f"model.{name}" for name in state]
    for name, tensor in saved["weight"].items():
        assert torch.equal(tensor, state[name.removeprefix("model.")].half())
    assert saved["config"]["data"]["max_sec"] == 30
    theirs = upstream_yaml()["model"]
    assert saved["config"]["model"] == {**theirs, "linear_units": 4 * TINY.hidden_dim}


def test_a_release_of_the_full_size_has_upstreams_names_and_shapes(tmp_path: Path) -> None:
    golden = {f"model.{name}": shape for name, shape in json.loads(GOLDEN_KEYS.read_text()).items()}
    model = S1Config()
    with torch.device("meta"):
        meta = S1(model).state_dict()
    state = {name: torch.zeros(tensor.shape) for name, tensor in meta.items()}
    folder = s1_checkpoint(tmp_path / "run", state, model)
    command("export", folder, tmp_path / "s1.ckpt", "--to", "gpt-sovits-s1")
    saved = torch.load(tmp_path / "s1.ckpt", weights_only=True, mmap=True)
    assert {name: list(tensor.shape) for name, tensor in saved["weight"].items()} == golden
    assert list(saved["weight"]) == list(golden)
    assert saved["config"]["data"]["max_sec"] == 54


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_release_comes_back_as_it_went(tmp_path: Path, dtype: str) -> None:
    """Import, train nothing, export, import again."""
    release = save_s1_release(tmp_path / "base.ckpt", s1_state(seed=2))
    command("import", release, tmp_path / "first.safetensors", "--to", "gpt_sovits_s1")
    first = load_file(tmp_path / "first.safetensors")
    folder = s1_checkpoint(tmp_path / "run", {name: first[name] for name in s1_state()})
    exported = tmp_path / "again.ckpt"
    command("export", folder, exported, "--to", "gpt-sovits-s1", "--dtype", dtype)
    found = read_weights(str(exported))
    assert (found.kind, found.about) == ("gpt_sovits_s1", "GPT-e15")
    command("import", exported, tmp_path / "second.safetensors", "--to", "gpt_sovits_s1")
    second = load_file(tmp_path / "second.safetensors")
    for name, tensor in first.items():
        assert torch.equal(second[name], tensor if dtype == "fp32" else tensor.half().float())


def test_trained_weights_are_bit_identical_in_fp32_and_rounded_in_fp16(tmp_path: Path) -> None:
    state = s1_state(seed=3)
    folder = s1_checkpoint(tmp_path / "run", state)
    for dtype, kind in (("fp32", torch.float32), ("fp16", torch.float16)):
        command("export", folder, tmp_path / dtype, "--to", "gpt-sovits-s1", "--dtype", dtype)
        for name, tensor in read_weights(str(tmp_path / dtype)).tensors.items():
            assert tensor.dtype == kind and torch.equal(tensor, state[name].to(kind))


def test_our_safetensors_are_read_with_the_models_sizes(tmp_path: Path) -> None:
    folder = s1_checkpoint(tmp_path / "run", s1_state())
    command("export", folder, tmp_path / "model.safetensors")
    found = read_weights(str(tmp_path / "model.safetensors"))
    assert (found.kind, found.about) == ("safetensors", "step 150, epoch 15")
    assert found.config["model"]["hidden_dim"] == TINY.hidden_dim
    told = command("import", tmp_path / "model.safetensors", "--to", "gpt_sovits_s1")
    assert "all" in told


def test_a_release_is_written_again_as_it_was(tmp_path: Path) -> None:
    release = save_s1_release(tmp_path / "base.ckpt", s1_state())
    command("export", release, tmp_path / "again.ckpt", "--to", "gpt-sovits-s1")
    again, before = (
        torch.load(tmp_path / name, weights_only=True) for name in ("again.ckpt", release)
    )
    assert again["info"] == before["info"] == "GPT-e15"
    assert all(torch.equal(again["weight"][name], t) for name, t in before["weight"].items())


def test_averages_are_exported_where_there_are_any(tmp_path: Path) -> None:
    values = full(0)
    values["b.weight"]["ema"] = torch.randn(33)
    folder = save(tmp_path / "run", 1, 2, values=values)
    command("export", folder, tmp_path / "ema.safetensors", "--ema")
    merged = load_file(tmp_path / "ema.safetensors")
    assert torch.equal(merged["b.weight"].flatten(), values["b.weight"]["ema"])
    assert torch.equal(merged["a.bias"], values["a.bias"]["master"])


def test_another_model_is_no_s1_release(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"of model\.name=unknown; write --to safetensors"):
        command("export", run, tmp_path / "out", "--to", "gpt-sovits-s1")
    state = {name: tensor for name, tensor in s1_state().items() if "bert" not in name}
    folder = s1_checkpoint(tmp_path / "run", state)
    with pytest.raises(UserError, match=r"are not those of its model\.\*; write --to safetensors"):
        command("export", folder, tmp_path / "out", "--to", "gpt-sovits-s1")
