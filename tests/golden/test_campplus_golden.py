"""CAM++ against numbers that the published network gave."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch

from shards.features.campplus import CamPlusPlus

ORACLE = "campplus.json"


@pytest.fixture(scope="module")
def oracle(request: pytest.FixtureRequest) -> dict[str, Any]:
    folder = Path(request.config.getoption("--goldens"))
    found: dict[str, Any] = json.loads((folder / ORACLE).read_text())
    return found


def drawn(name: str, shape: list[int], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed((zlib.crc32(name.encode()) + seed) % 2**31)
    return torch.randn(*shape, generator=generator)


def filled(seed: int) -> CamPlusPlus:
    model = CamPlusPlus().eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            values = drawn(f"campplus.{key}", list(parameter.shape), seed)
            is_scale = parameter.dim() == 1 and key.endswith(".weight")
            parameter.copy_(1 + 0.1 * values if is_scale else 0.05 * values)
    return model


def test_keys_and_shapes_are_those_of_the_published_weights(oracle: dict[str, Any]) -> None:
    model = CamPlusPlus()
    parameters = dict(model.named_parameters())
    found = {
        key: [list(tensor.shape), "param" if key in parameters else "buffer"]
        for key, tensor in model.state_dict().items()
    }
    assert found == oracle["keys"]


def test_outputs_are_those_of_the_published_network(oracle: dict[str, Any]) -> None:
    model = filled(oracle["seed"])
    with torch.inference_mode():
        frames = drawn("fbank", oracle["input"], oracle["seed"])
        style = model(frames, torch.full((len(frames),), frames.shape[1]))
    expected = oracle["output"]
    assert list(style.shape) == expected["shape"]
    flat = style.flatten()
    scale = expected["abs_mean"]
    assert abs(float(flat.abs().mean()) - scale) < 1e-4 * scale
    for part, name in ((flat[:8], "first8"), (flat[-8:], "last8")):
        assert float((part - torch.tensor(expected[name])).abs().max()) < 1e-4 * scale
