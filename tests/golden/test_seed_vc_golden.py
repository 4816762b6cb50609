"""The Seed-VC model against numbers that the upstream model gave."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from seed_vc_presets import PRESETS

from pretrain.models.seed_vc.config import SeedVCConfig
from pretrain.models.seed_vc.flow import Draws, distance, noised
from pretrain.models.seed_vc.length_regulator import Stretched
from pretrain.models.seed_vc.model import SeedVC

TOLERANCE = 1e-4
UNUSED_MILLIONS = {"small": 5.29, "44k": 13.77, "xlsr": 7.80}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folder = Path(metafunc.config.getoption("--goldens"))
    for name, file in (("preset", "seed_vc_keys.json"), ("variant", "seed_vc_tiny.json")):
        if name in metafunc.fixturenames:
            data = json.loads((folder / file).read_text())
            metafunc.parametrize(name, data.items(), ids=data.keys())


def keys_of(model: SeedVC) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


def upstream_keys(parts: dict[str, Any], kind: str) -> dict[str, list[int]]:
    return {
        f"{part}.{key}": shape
        for part, keys in parts.items()
        for key, (shape, _, what) in keys.items()
        if what == kind
    }


def config_of(written: dict[str, Any]) -> SeedVCConfig:
    dit, regulator = written["DiT"], written["length_regulator"]
    values = {
        "mel": "seed_vc_44k" if dit["in_channels"] == 128 else "seed_vc_22k",
        "hidden_dim": dit["hidden_dim"],
        "head": dit["num_heads"],
        "n_layer": dit["depth"],
        "content_channels": regulator["in_channels"],
        "content_dim": regulator["channels"],
        "content_codebook": regulator["content_codebook_size"],
        "head_type": dit["final_layer_type"],
        "time_as_token": dit["time_as_token"],
        "style_as_token": dit["style_as_token"],
        "long_skip": dit["long_skip_connection"],
        "uvit_skip": dit["uvit_skip_connection"],
        "f0_condition": dit["f0_condition"],
        "n_f0_bins": dit["n_f0_bins"],
        "loss": written["reg_loss_type"],
    }
    if "wavenet" in written:
        values["wavenet"] = {"layers": written["wavenet"]["num_layers"]}
    return SeedVCConfig.model_validate(values)


def seeded(name: str, seed: int) -> torch.Generator:
    return torch.Generator().manual_seed((zlib.crc32(name.encode()) + seed) % 2**31)


def filled(config: SeedVCConfig, seed: int) -> SeedVC:
    model = SeedVC(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(*parameter.shape, generator=seeded(name, seed))
            scale = (parameter.ndim == 1 and name.endswith(".weight")) or "weight_g" in name
            parameter.copy_(1 + 0.1 * noise if scale else 0.05 * noise)
    return model


def agree(found: torch.Tensor, golden: dict[str, Any]) -> None:
    assert list(found.shape) == golden["shape"]
    flat = found.flatten()
    near(flat.abs().mean(), golden["abs_mean"])
    near(flat[:8], golden["first8"])
    near(flat[-8:], golden["last8"])


def near(found: torch.Tensor, golden: Any) -> None:
    torch.testing.assert_close(found, torch.tensor(golden), rtol=TOLERANCE, atol=2e-6)


@torch.no_grad()
def test_regulator_estimator_and_losses_match_upstream(variant: tuple[str, Any]) -> None:
    golden = variant[1]
    config, seed = config_of(golden["model_params"]), golden["seed"]
    model = filled(config, seed)
    batch, frames, source = golden["B"], golden["T"], golden["S"]
    lengths, spans = torch.tensor(golden["lens"]), torch.full((batch,), frames)
    whole = torch.full((batch,), source)

    def normal(tag: str, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=seeded(tag, seed))

    f0 = None
    if config.f0_condition:
        hertz = torch.rand(batch, source, generator=seeded("f0", seed)) * 300 + 80
        hertz[:, ::5] = 0
        f0 = Stretched(hertz, whole)
    spoken = normal("content", batch, source, config.content_channels).transpose(1, 2)
    content = model.length_regulator(Stretched(spoken, whole), lengths, spans, frames, f0)
    agree(content, golden["regulator"])

    mel = normal("mel", batch, config.n_mels, frames)
    draws = Draws(
        noise=normal("noise", batch, config.n_mels, frames),
        time=torch.rand(batch, generator=seeded("time", seed)),
        prompt_lengths=torch.tensor(golden["prompt_lens"]),
        keep=torch.ones(batch),
    )
    between, prompt, wanted = noised(mel, draws)
    style = normal("style", batch, 192)

    def estimate(keep: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = model.estimator(
            between, prompt, lengths, draws.time, style, content, keep, spans
        )
        return out

    found = estimate(draws.keep)
    agree(found, golden["estimator"])
    near(found[0, :8, frames // 2], golden["estimator_frame0"])
    agree(estimate(torch.zeros(batch)), golden["estimator_unconditional"])
    losses = distance(found, wanted, draws.prompt_lengths, lengths, config.loss == "l2")
    near(losses, golden["loss_per_sample"])
    near(losses.mean(), golden["loss"])


def test_a_variants_keys_are_upstreams(variant: tuple[str, Any]) -> None:
    golden = variant[1]
    model = SeedVC(config_of(golden["model_params"]))
    assert keys_of(model) == upstream_keys(golden["keys"], "param")


def test_a_presets_keys_and_buffers_are_upstreams(preset: tuple[str, Any]) -> None:
    name, parts = preset
    with torch.device("meta"):
        model = SeedVC(SeedVCConfig.model_validate(PRESETS[name]))
    assert keys_of(model) == upstream_keys(parts, "param")
    stored = {key: list(value.shape) for key, value in model.stored_buffers().items()}
    assert stored == upstream_keys(parts, "buffer")
    sizes = {key: parameter.numel() for key, parameter in model.named_parameters()}
    unused = sum(sizes[key] for key in model.unused())
    assert unused / 1e6 == pytest.approx(UNUSED_MILLIONS[name], abs=0.006)
