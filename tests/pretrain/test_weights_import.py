"""``segue import``: what weights are, how they fit, and upstream's configs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from test_weights_export import command
from upstream_files import (
    TINY,
    s1_state,
    s2_state,
    save_s1_release,
    seed_vc_v2_net,
    upstream_yaml,
)

from pretrain.config import load
from shards.errors import UserError

S2_JSON = {
    "train": {"learning_rate": 1e-4, "batch_size": 32, "c_mel": 45},
    "data": {"sampling_rate": 32000, "filter_length": 2048},
    "model": {"inter_channels": 192, "hidden_channels": 192, "filter_channels": 768},
}
SEED_VC_V2_YAML = {"cfm": {"_target_": "modules"}, "cfm_length_regulator": {}}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return save_s1_release(tmp_path / "s1.ckpt", s1_state(seed=2))


def numbers(told: str) -> list[str]:
    """The cells of the table's last row."""
    (line,) = [line for line in told.splitlines() if line.split()[:1] == ["all"]]
    return line.split()[1:]


def write_yaml(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(values)))
    return path


def test_without_a_model_it_says_what_a_file_is(release: Path) -> None:
    told = command("import", release)
    assert told.strip() == f"{release}: GPT-SoVITS s1 weights, GPT-e15, {len(s1_state())} tensors"


def test_the_sizes_are_those_of_the_file(release: Path) -> None:
    total = sum(tensor.numel() for tensor in s1_state().values())
    told = command("import", release, "--to", "gpt_sovits_s1")
    assert numbers(told) == [f"{total:,}"]
    assert "h.layers" not in told
    told = command("import", release, "--to", "gpt_sovits_s1", "--report")
    assert "h.layers.1.linear2.bias" in told


def test_what_fits_is_written_in_float32(release: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "fitted.safetensors"
    told = command("import", release, out, "--to", "gpt_sovits_s1")
    assert f"{out}: {len(s1_state())} tensors, fp32" in told
    fitted = load_file(out)
    for name, tensor in s1_state(seed=2).items():
        assert fitted[name].dtype == torch.float32
        assert torch.equal(fitted[name], tensor.half().float())


def test_overrides_make_a_deeper_model(release: Path, tmp_path: Path) -> None:
    out = tmp_path / "deeper.safetensors"
    words = ("import", release, out, "model.n_layer=3", "--to", "gpt_sovits_s1")
    with pytest.raises(UserError, match=r"s1\.ckpt does not fit gpt_sovits_s1: 12 missing \(h\.l"):
        command(*words)
    assert not out.exists()
    command(*words, "allow.depth.decoder=copy_last")
    fitted = load_file(out)
    assert torch.equal(fitted["h.layers.2.linear1.weight"], fitted["h.layers.1.linear1.weight"])


def test_a_runs_config_gives_sizes_and_rules(release: Path, tmp_path: Path) -> None:
    rules = {
        "run": {"name": "a"},
        "model": {**TINY.model_dump(mode="json"), "vocab_size": 50},
        "allow": {"reshape": {"audio_embedding": "mean", "head": "mean"}},
    }
    path = write_yaml(tmp_path / "run.yaml", rules)
    told = command("import", release, "--to", "gpt_sovits_s1", "--config", path)
    assert numbers(told)[1:] == [f"{2 * 50 * 8:,}"]


def test_an_upstream_config_gives_the_sizes_of_a_file_without_any(tmp_path: Path) -> None:
    torch.save(s1_state(), tmp_path / "state.pt")
    path = write_yaml(tmp_path / "s1.yaml", upstream_yaml())
    command("import", tmp_path / "state.pt", "--to", "gpt_sovits_s1", "--config", path)
    with pytest.raises(UserError, match="misshaped"):
        command("import", tmp_path / "state.pt", "--to", "gpt_sovits_s1", "model.n_layer=2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.safetensors", "b.safetensors"], "are several files; give one OUT"),
        (["model.n_layers=3"], r"unknown key model\.n_layers; did you mean model\.n_layer\?"),
        (["allow.missing=[bert]"], r"allow\.missing: 'bert' matches nothing"),
        (["train.steps=3"], "unknown key train"),
    ],
)
def test_a_wrong_word_is_a_user_error(release: Path, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        command("import", release, *words, "--to", "gpt_sovits_s1")


def test_a_word_without_a_model_is_a_user_error(release: Path) -> None:
    with pytest.raises(UserError, match="goes with a model; write --to gpt_sovits_s1"):
        command("import", release, "out.safetensors")


@pytest.mark.parametrize(
    ("saved", "name"),
    [
        ({"weight": s2_state(), "info": "8epoch"}, "GPT-SoVITS s2"),
        ({"net": seed_vc_v2_net()}, "Seed-VC v2"),
    ],
)
def test_a_model_that_is_not_there_is_one_sentence(
    tmp_path: Path, saved: dict[str, Any], name: str
) -> None:
    torch.save(saved, tmp_path / "file")
    assert f"{name} weights" in command("import", tmp_path / "file")
    with pytest.raises(UserError, match=rf"is of {name}, a model that Segue does not have yet"):
        command("import", tmp_path / "file", "--to", "gpt_sovits_s1")


def test_an_upstream_config_becomes_a_runs(tmp_path: Path) -> None:
    path = write_yaml(tmp_path / "s1longer-v2.yaml", upstream_yaml())
    out = tmp_path / "run.yaml"
    told = command("import", "--config", path, out)
    config = load(out, ["run.name=a", "data.path=b"])
    assert config.model.model_dump() == TINY.model_dump()
    assert (config.data.max_seconds, config.data.workers) == (54, 4)
    assert (config.batch.micro_seconds, config.batch.seconds) == (60, 240)
    assert (config.precision, config.seed, config.train.epochs) == ("bf16", 1234, 20)
    assert config.checkpoint.keep_every_epochs == 2
    taken, ignored, left = told.splitlines()[1:]
    assert "data.max_sec as data.max_seconds" in taken and "model.n_layer" in taken
    assert "train.batch_size as batch.seconds and batch.micro_seconds" in taken
    for key in ("optimizer.warmup_steps", "model.linear_units", "train.gradient_clip"):
        assert key in ignored
    assert "inference.top_k" in left and "data.pad_val" in left
    text = out.read_text()
    assert "a clip counts 7.5 s" in text and "name: ???" in text
    with pytest.raises(UserError, match=r"run\.name is missing"):
        load(out)


@pytest.mark.parametrize(
    ("precision", "ours"), [("16-mixed", "bf16"), (16, "bf16"), (32, "fp32"), ("32", "fp32")]
)
def test_half_precision_becomes_bf16(tmp_path: Path, precision: Any, ours: str) -> None:
    values = upstream_yaml()
    values["train"]["precision"] = precision
    command("import", "--config", write_yaml(tmp_path / "s1.yaml", values), tmp_path / "run.yaml")
    assert load(tmp_path / "run.yaml", ["run.name=a", "data.path=b"]).precision == ours


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"EOS": 7}, r"s1\.yaml: model\.EOS=7 is not the last token, .*; write 32"),
        ({"embedding_dim": 16}, r"model\.embedding_dim=16 is not model\.hidden_dim, .*; write 8"),
        ({"n_layer": "many"}, r"s1\.yaml lacks model\.n_layer; write whole numbers"),
        ({"head": 3}, r"s1\.yaml: model: hidden_dim=8 must be even and a multiple of head=3"),
    ],
)
def test_an_upstream_config_that_upstream_could_not_train_is_a_user_error(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    values = upstream_yaml()
    values["model"].update(change)
    with pytest.raises(UserError, match=message):
        command("import", "--config", write_yaml(tmp_path / "s1.yaml", values), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "name"), [(S2_JSON, "GPT-SoVITS s2"), (SEED_VC_V2_YAML, "Seed-VC v2")]
)
def test_a_config_of_a_model_that_is_not_there_is_one_sentence(
    tmp_path: Path, values: dict[str, Any], name: str
) -> None:
    (tmp_path / "config").write_text(json.dumps(values, indent=2))
    with pytest.raises(UserError, match=rf"is of {name}, a model that Segue does not have yet"):
        command("import", "--config", tmp_path / "config", tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1", "no configuration that is understood"),
        ("- 1", "no configuration that is understood"),
        ("model: {hidden_size: 768}", "no configuration that is understood"),
        ("a: [", "mend the YAML there"),
        ("run: {name: a}", "is a run's config already"),
    ],
)
def test_a_config_that_is_not_understood_is_a_user_error(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(UserError, match=message):
        command("import", "--config", tmp_path / "config", tmp_path / "out")


def test_a_config_is_never_written_over_another_file(tmp_path: Path) -> None:
    release = save_s1_release(tmp_path / "s1.ckpt", s1_state())
    content = release.read_bytes()
    with pytest.raises(UserError, match=r"would write a run's config over .*, or add --to"):
        command("import", release, "--config", "s1longer-v2.yaml")
    assert release.read_bytes() == content
