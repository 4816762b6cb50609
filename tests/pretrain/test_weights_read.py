"""Weights of every kind are told by what a file holds, whatever it is called."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from test_checkpoint import SHAPES, full, save
from torch import Tensor
from upstream_files import (
    TINY,
    parameters_of,
    s1_state,
    s2_state,
    save_s1_lightning,
    save_s1_release,
    seed_vc_net,
    upstream_yaml,
)

from pretrain.weights.found import Weights
from pretrain.weights.read import read_weights
from shards.errors import UserError

STATE = {"a.weight": torch.randn(3, 2), "a.bias": torch.randn(3)}


def same(found: Weights, expected: dict[str, Tensor]) -> bool:
    assert list(found.tensors) == list(expected)
    return all(torch.equal(found.tensors[name], tensor) for name, tensor in expected.items())


def facts(found: Weights) -> tuple[str, str]:
    return found.kind, found.about


def test_an_s1_release(tmp_path: Path) -> None:
    state = s1_state()
    found = read_weights(str(save_s1_release(tmp_path / "anything", state)))
    assert facts(found) == ("gpt_sovits_s1", "GPT-e15")
    assert same(found, {name: tensor.half() for name, tensor in state.items()})
    assert found.config == upstream_yaml()


def test_an_s1_checkpoint_of_lightning(tmp_path: Path) -> None:
    found = read_weights(str(save_s1_lightning(tmp_path / "epoch=3-step=120.ckpt", s1_state())))
    assert facts(found) == ("gpt_sovits_s1", "step 120, epoch 3")
    assert same(found, s1_state())
    assert found.config["model"]["n_layer"] == TINY.n_layer


@pytest.mark.parametrize("version", [b"PK", b"01", b"05"])
def test_an_s2_release_with_and_without_a_version(tmp_path: Path, version: bytes) -> None:
    path, state = tmp_path / "s2.pth", s2_state()
    torch.save({"weight": state, "config": {"model": {}}, "info": "8epoch_100iteration"}, path)
    path.write_bytes(version + path.read_bytes()[2:])
    found = read_weights(str(path))
    assert facts(found) == ("gpt_sovits_s2", "8epoch_100iteration")
    assert same(found, state)


def test_an_s2_training_file(tmp_path: Path) -> None:
    state = s2_state()
    saved = {"model": state, "iteration": 8, "optimizer": {"state": {}}, "learning_rate": 1e-4}
    torch.save(saved, tmp_path / "G_233333333333.pth")
    found = read_weights(str(tmp_path / "G_233333333333.pth"))
    assert facts(found) == ("gpt_sovits_s2", "epoch 8") and same(found, state)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_seed_vc_file(tmp_path: Path, prefix: str) -> None:
    net = seed_vc_net(prefix)
    optimizer = [("cfm", {"state": {}, "param_groups": []})]
    saved = {"net": net, "optimizer": optimizer, "iters": 500, "epoch": 2}
    torch.save(saved, tmp_path / "DiT_epoch_00002_step_00500.pth")
    found = read_weights(str(tmp_path / "DiT_epoch_00002_step_00500.pth"))
    assert facts(found) == ("seed_vc", "step 500, epoch 2")
    expected = {name.replace(prefix, ""): one for name, one in parameters_of(net).items()}
    assert "cfm.estimator.cond_projection.weight" in expected
    assert same(found, expected)


def test_seed_vc_averages_go_by_place_and_leave_the_caches_out(tmp_path: Path) -> None:
    net = seed_vc_net()
    averages = {
        component: [[tensor + 1 for name, tensor in state.items() if "input_pos" not in name]]
        for component, state in net.items()
    }
    torch.save({"net": net, "ema": averages}, tmp_path / "file")
    plain = read_weights(str(tmp_path / "file"))
    averaged = read_weights(str(tmp_path / "file"), ema=True)
    assert list(averaged.tensors) == list(plain.tensors)
    for name, tensor in plain.tensors.items():
        assert torch.equal(averaged.tensors[name], tensor + 1)
    averages["cfm"][0].pop()
    torch.save({"net": net, "ema": averages}, tmp_path / "file")
    with pytest.raises(UserError, match=r"holds \d+ averages for the \d+ weights of cfm"):
        read_weights(str(tmp_path / "file"), ema=True)


@pytest.mark.parametrize(
    "saved",
    [
        STATE,
        {f"module.{name}": tensor for name, tensor in STATE.items()},
        {f"module._orig_mod.{name}": tensor for name, tensor in STATE.items()},
        {"state_dict": {f"model.{name}": tensor for name, tensor in STATE.items()}, "epoch": 3},
        {"model": STATE, "step": 5},
        {"a": {"weight": STATE["a.weight"], "bias": STATE["a.bias"]}},
    ],
)
def test_a_plain_state_dict(tmp_path: Path, saved: dict[str, Any]) -> None:
    torch.save(saved, tmp_path / "file.pt")
    found = read_weights(str(tmp_path / "file.pt"))
    assert found.kind == "state_dict" and same(found, STATE)


def test_one_safetensors_file(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "weights.bin", {"step": "7"})
    found = read_weights(str(tmp_path / "weights.bin"))
    assert facts(found) == ("safetensors", "step 7")
    assert {*found.tensors} == {*STATE}
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in STATE.items())


@pytest.mark.parametrize("given", ["model.safetensors.index.json", ""])
def test_sharded_safetensors_by_their_index_or_folder(tmp_path: Path, given: str) -> None:
    files = {name: f"model-{n}.safetensors" for n, name in enumerate(STATE)}
    for name, file in files.items():
        save_file({name: STATE[name]}, tmp_path / file)
    index = {"metadata": {"total_size": 36}, "weight_map": files}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text('{"hidden_size": 3}')
    found = read_weights(str(tmp_path / given))
    assert facts(found) == ("safetensors", "2 files") and same(found, STATE)
    assert found.config == {"hidden_size": 3}
    (tmp_path / files["a.bias"]).unlink()
    with pytest.raises(UserError, match=r"model-1\.safetensors is not there"):
        read_weights(str(tmp_path / given))


def test_safetensors_are_read_one_by_one(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "weights")
    content = (tmp_path / "weights").read_bytes()
    found = read_weights(str(tmp_path / "weights"))
    assert found.tensors["a.bias"] is not found.tensors["a.bias"]
    (tmp_path / "weights").write_bytes(content[:-4])
    with pytest.raises(UserError, match="weights is damaged"):
        read_weights(str(tmp_path / "weights"))


@pytest.mark.parametrize("given", ["", "checkpoints", "checkpoints/epoch_00000_step_00000004"])
def test_our_own_checkpoints(tmp_path: Path, given: str) -> None:
    save(tmp_path / "checkpoints", 4, 2, seed=4)
    found = read_weights(str(tmp_path / given))
    assert facts(found) == ("segue", "step 4, epoch 0.4")
    expected = {name: full(4)[name]["master"].view(shape) for name, shape in SHAPES.items()}
    assert same(found, expected)
    with pytest.raises(UserError, match=r"holds no averages; train with optimizer\.ema_decay"):
        read_weights(str(tmp_path / given), ema=True)


def test_averages_of_our_own_checkpoints(tmp_path: Path) -> None:
    values = full(0)
    values["b.weight"]["ema"] = torch.randn(33)
    found = read_weights(str(save(tmp_path, 1, 2, values=values)), ema=True)
    assert torch.equal(found.tensors["b.weight"].flatten(), values["b.weight"]["ema"])
    assert torch.equal(found.tensors["a.bias"], values["a.bias"]["master"])


@pytest.mark.parametrize("content", [b"", b"some text", b'{"weight": 1}', b"PK\x03\x04"])
def test_what_is_not_understood_is_a_user_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=r"nothing that is understood; give GPT-|is damaged or no"):
        read_weights(str(tmp_path / "file"))


@pytest.mark.parametrize("saved", [[1], {"epoch": 3}, {"net": {"cfm": 3}}, {}])
def test_a_torch_file_without_weights_is_a_user_error(tmp_path: Path, saved: Any) -> None:
    torch.save(saved, tmp_path / "file")
    with pytest.raises(UserError, match=r"understood; give GPT-SoVITS s1 weights, .* a state dict"):
        read_weights(str(tmp_path / "file"))


@pytest.mark.parametrize("given", ["nowhere.pth", "empty"])
def test_what_is_not_there_is_a_user_error(tmp_path: Path, given: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=rf"{given} .*; give GPT-SoVITS s1 weights"):
        read_weights(str(tmp_path / given))


def test_a_file_that_would_run_something_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"weight": STATE, "config": Trap()}, tmp_path / "file.ckpt")
    with pytest.raises(UserError, match=re.escape("file.ckpt asks for posix.system")):
        read_weights(str(tmp_path / "file.ckpt"))
    assert not (tmp_path / "ran").exists()
