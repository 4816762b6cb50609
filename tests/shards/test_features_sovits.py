"""Semantic tokens of GPT-SoVITS from a HuBERT folder and an s2G file."""

from __future__ import annotations

import json
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
import torch
from tiny_models import WIDTH, clip_of, foreign_module, noise, quantizer_weights, save_hubert
from transformers import HubertModel

from shards.audio import Audio
from shards.errors import UserError
from shards.features.feature import Feature, FittedFeature
from shards.features.registry import features_named
from shards.features.sovits_checkpoint import read_quantizer
from shards.features.units_sovits import prepared
from shards.pack.config import PackConfig

OPTIONS = """
class HParams:
    def __init__(self, **options):
        self.__dict__.update(options)
"""
CODES = "quantizer.vq.layers.0._codebook.embed"


@pytest.fixture(scope="module")
def cnhubert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, HubertModel]:
    folder = tmp_path_factory.mktemp("chinese-hubert-base")
    return folder, save_hubert(folder)


def save_export(path: Path, weights: dict[str, torch.Tensor]) -> Path:
    """An s2G file as the program exports it: options are an object of its own class."""
    with foreign_module("utils", OPTIONS) as utils:
        options = utils.HParams(model=utils.HParams(version="v2"), train={"epochs": 8})
        torch.save({"weight": weights, "config": options, "info": "8epoch"}, path)
    return path


def units_of(cnhubert: Path, checkpoint: Path, out: Path) -> Feature:
    config = PackConfig.model_validate(
        {"sovits": {"cnhubert": str(cnhubert), "checkpoint": str(checkpoint)}}
    )
    (feature,) = features_named(["units.sovits"], config, out)
    return feature


def tokens_directly(model: HubertModel, weights: dict[str, torch.Tensor], audio: Audio) -> Any:
    """The program's steps one after the other, in its own formulas."""
    at_32k = soxr.resample(audio.samples, audio.sample_rate, 32_000)
    peak = np.abs(at_32k).max()
    loud = (at_32k / peak * (0.95 * 0.5 * 1145.14)) + ((1 - 0.5) * 1145.14) * at_32k
    wave = torch.from_numpy(soxr.resample(loud, 32_000, 16_000).astype(np.float32))
    with torch.no_grad():
        ssl = model(wave[None])["last_hidden_state"].transpose(1, 2)
        kernel = weights["ssl_proj.weight"].shape[2]
        projection = torch.nn.Conv1d(WIDTH, WIDTH, kernel, stride=kernel)
        projection.weight.data = weights["ssl_proj.weight"].float()
        projection.bias.data = weights["ssl_proj.bias"].float()
        return torch.cdist(projection(ssl)[0].T, weights[CODES].float()).argmin(1).numpy()


@pytest.mark.parametrize(("kernel", "rate", "count"), [(2, 25, 24), (1, 50, 49)])
def test_tokens_are_those_of_the_program(
    cnhubert: tuple[Path, HubertModel], tmp_path: Path, kernel: int, rate: int, count: int
) -> None:
    weights = quantizer_weights(kernel)
    feature = units_of(cnhubert[0], save_export(tmp_path / "s2G.pth", weights), tmp_path)
    audio = noise(sample_rate=44_100)
    tokens = pickle.loads(pickle.dumps(feature)).compute(clip_of(audio))
    assert tokens.dtype == np.int16 and tokens.shape == (count,)
    assert len(np.unique(tokens)) > 2
    assert (tokens == tokens_directly(cnhubert[1], weights, audio)).all()
    about = feature.about()
    assert (about["per_second"], about["codes"]) == (rate, 50)
    assert json.loads(json.dumps(about)) == about


def test_its_codebook_is_not_fitted(cnhubert: tuple[Path, HubertModel], tmp_path: Path) -> None:
    checkpoint = save_export(tmp_path / "s2G.pth", quantizer_weights())
    assert not isinstance(units_of(cnhubert[0], checkpoint, tmp_path), FittedFeature)


def test_every_kind_of_s2g_file_gives_the_same_quantizer(tmp_path: Path) -> None:
    weights = quantizer_weights()
    exported = save_export(tmp_path / "export.pth", weights)
    torch.save({"model": weights, "iteration": 3, "optimizer": {}}, tmp_path / "G_3.pth")
    torch.save({"weight": weights, "config": {"model": {}}}, tmp_path / "plain.pth")
    marked = []
    for version in ("00", "03", "06"):
        marked.append(tmp_path / f"{version}.pth")
        marked[-1].write_bytes(version.encode() + exported.read_bytes()[2:])
    paths = [exported, tmp_path / "G_3.pth", tmp_path / "plain.pth", *marked]
    assert len({read_quantizer(path).fingerprint() for path in paths}) == 1
    assert read_quantizer(exported).codes.dtype == torch.float32


def test_other_weights_have_another_fingerprint(tmp_path: Path) -> None:
    weights = quantizer_weights()
    first = save_export(tmp_path / "first.pth", weights)
    weights[CODES] = weights[CODES] + 1
    second = save_export(tmp_path / "second.pth", weights)
    assert read_quantizer(first).fingerprint() != read_quantizer(second).fingerprint()


@pytest.mark.parametrize("call", ["os.system", "subprocess.call", "builtins.exec"])
def test_code_in_a_file_is_never_run(tmp_path: Path, call: str) -> None:
    module = call.partition(".")[0]
    mark = tmp_path / "ran"
    source = f"""
class Trap:
    def __reduce__(self):
        import {module}
        return {call}, ({{"os.system": "touch {mark}", "subprocess.call": ["touch", "{mark}"],
                         "builtins.exec": "open('{mark}', 'w')"}}["{call}"],)
"""
    with foreign_module("trap", source) as trap:
        torch.save({"weight": quantizer_weights(), "config": trap.Trap()}, tmp_path / "trap.pth")
    with suppress(UserError):
        read_quantizer(tmp_path / "trap.pth")
    assert not mark.exists()
    torch.load(tmp_path / "trap.pth", weights_only=False)  # the trap does work
    assert mark.exists()


@pytest.mark.parametrize("key", ["ssl_proj.weight", "ssl_proj.bias", CODES])
def test_a_missing_weight_is_named(tmp_path: Path, key: str) -> None:
    weights: dict[str, Any] = quantizer_weights()
    del weights[key]
    path = save_export(tmp_path / "s2G.pth", weights)
    with pytest.raises(UserError, match=rf"sovits\.checkpoint: .*s2G\.pth lacks {key}; give"):
        read_quantizer(path)


def test_weights_that_are_no_tensors_are_missing(tmp_path: Path) -> None:
    torch.save({"weight": dict.fromkeys(quantizer_weights(), 1)}, tmp_path / "s2G.pth")
    with pytest.raises(UserError, match=r"lacks ssl_proj\.weight, ssl_proj\.bias, quantizer"):
        read_quantizer(tmp_path / "s2G.pth")


@pytest.mark.parametrize("saved", [[1, 2], {"state_dict": {}}, {"weight": 3}, 7])
def test_a_file_of_something_else_is_a_user_error(tmp_path: Path, saved: Any) -> None:
    torch.save(saved, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth holds neither 'weight' nor 'model'"):
        read_quantizer(tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("ssl_proj.weight", (WIDTH, WIDTH, 3)),
        ("ssl_proj.weight", (WIDTH, WIDTH)),
        ("ssl_proj.bias", ()),
        (CODES, (50,)),
        (CODES, (50, WIDTH + 1)),
    ],
)
def test_weights_of_other_shapes_are_a_user_error(
    tmp_path: Path, key: str, shape: tuple[int, ...]
) -> None:
    path = save_export(tmp_path / "s2G.pth", {**quantizer_weights(), key: torch.zeros(shape)})
    with pytest.raises(UserError, match=r"give an s2G file with ssl_proj.weight"):
        read_quantizer(path)


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"05", b"05junk", b"text", b"PK\x03\x04" + b"0" * 99]
)
def test_a_damaged_file_is_a_user_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s2G.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"sovits\.checkpoint: .*s2G\.pth is damaged"):
        read_quantizer(tmp_path / "s2G.pth")


def test_a_file_cut_short_is_a_user_error(tmp_path: Path) -> None:
    path = save_export(tmp_path / "s2G.pth", quantizer_weights())
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match="is damaged"):
        read_quantizer(path)


@pytest.mark.parametrize("name", ["missing.pth", "."])
def test_a_path_that_is_no_file_is_a_user_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"cannot be read .* write sovits\.checkpoint=FILE"):
        read_quantizer(tmp_path / name)


def test_a_checkpoint_for_another_hubert_is_a_user_error(
    cnhubert: tuple[Path, HubertModel], tmp_path: Path
) -> None:
    path = save_export(tmp_path / "s2G.pth", quantizer_weights(width=8))
    with pytest.raises(UserError, match=f"takes frames of 8 numbers .* gives {WIDTH}"):
        units_of(cnhubert[0], path, tmp_path)


def test_a_checkpoint_that_is_not_set_is_a_user_error(
    cnhubert: tuple[Path, HubertModel], tmp_path: Path
) -> None:
    config = PackConfig.model_validate({"sovits": {"cnhubert": str(cnhubert[0])}})
    with pytest.raises(UserError, match=r"write sovits\.checkpoint=FILE"):
        features_named(["units.sovits"], config, tmp_path)


def test_half_of_the_signal_is_levelled_by_its_peak() -> None:
    samples = np.array([0.0, 0.5, -0.25, 0.1] * 2000, np.float32)
    expected = 1145.14 * (0.5 * 0.95 * samples / 0.5 + 0.5 * samples)
    np.testing.assert_allclose(prepared(Audio(samples, 32_000)).samples, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("level", "reason"), [(0.0, "^silence has no semantic tokens$"), (2.3, "^peak far above full")]
)
def test_what_the_program_drops_is_refused(level: float, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        prepared(Audio(np.full(32_000, level, np.float32), 32_000))


def test_a_peak_of_twice_full_scale_is_kept() -> None:
    samples = np.full(32_000, 2.0, np.float32)
    assert np.isfinite(prepared(Audio(samples, 32_000)).samples).all()
