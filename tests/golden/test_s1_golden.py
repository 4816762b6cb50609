"""The s1 model against numbers that the upstream model gave."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from pretrain.models.gpt_sovits_s1.config import S1Config
from pretrain.models.gpt_sovits_s1.model import IGNORE, S1

TOLERANCE = 1e-4


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folder = Path(metafunc.config.getoption("--goldens"))
    files = {path: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    if "key_list" in metafunc.fixturenames:
        lists = {path.name: data for path, data in files.items() if _is_key_list(data)}
        metafunc.parametrize("key_list", lists.values(), ids=lists.keys())
    if "case" in metafunc.fixturenames:
        cases = {
            f"{path.name}-{name}": (data["model"], name, case)
            for path, data in files.items()
            if "model" in data and "phoneme_vocab_size" in data["model"]
            for name, case in data.items()
            if isinstance(case, dict) and "samples" in case
        }
        metafunc.parametrize("case", cases.values(), ids=cases.keys())
    if "oracle" in metafunc.fixturenames:
        oracles = {p.name: d for p, d in files.items() if "model" in d and "keys" in d}
        metafunc.parametrize("oracle", oracles.values(), ids=oracles.keys())


def _is_key_list(data: dict[str, Any]) -> bool:
    return "ar_predict_layer.weight" in data


def shapes_of(model: torch.nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


def config_of(model: dict[str, Any]) -> S1Config:
    return S1Config(
        vocab_size=model["vocab_size"],
        phoneme_vocab_size=model["phoneme_vocab_size"],
        hidden_dim=model["hidden_dim"],
        head=model["head"],
        n_layer=model["n_layer"],
    )


def filled(config: S1Config, seed: int) -> S1:
    model = S1(config).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            name = f"model.{key}"
            generator = torch.Generator().manual_seed((zlib.crc32(name.encode()) + seed) % 2**31)
            noise = torch.randn(*parameter.shape, generator=generator)
            scale = (parameter.ndim == 1 and name.endswith(".weight")) or name.endswith(".alpha")
            parameter.copy_(1 + 0.1 * noise if scale else 0.05 * noise)
    return model


def sample_inputs(
    config: S1Config, seed: int, number: int, sample: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed * 1000 + number)
    size = (sample["phonemes"],)
    phonemes = torch.randint(0, config.phoneme_vocab_size, size, generator=generator)
    tokens = torch.randint(0, config.eos, (sample["semantics"],), generator=generator)
    bert = 0.3 * torch.randn(1024, sample["phonemes"], generator=generator)
    return phonemes, tokens, bert


def close(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= TOLERANCE * max(abs(wanted), 1e-2)


def test_parameter_names_and_shapes_are_upstreams(key_list: dict[str, list[int]]) -> None:
    layers = {key.split(".")[2] for key in key_list if key.startswith("h.layers.")}
    phonemes, dim = key_list["ar_text_embedding.word_embeddings.weight"]
    config = S1Config(
        vocab_size=key_list["ar_predict_layer.weight"][0],
        phoneme_vocab_size=phonemes,
        hidden_dim=dim,
        head=1,
        n_layer=len(layers),
    )
    assert shapes_of(S1(config)) == key_list


def test_an_oracles_keys_are_the_models(oracle: dict[str, Any]) -> None:
    assert shapes_of(S1(config_of(oracle["model"]))) == oracle["keys"]


def test_losses_and_logits_match_upstream(case: tuple[dict[str, Any], str, dict[str, Any]]) -> None:
    """Samples of a `batch` case run as one batch, others alone; relative difference < 1e-4."""
    settings, name, golden = case
    config = config_of(settings)
    model = filled(config, golden["seed"])
    samples = golden["samples"]
    alone = [[number] for number in range(len(samples))]
    for group in [list(range(len(samples)))] if name.startswith("batch") else alone:
        inputs = [sample_inputs(config, golden["seed"], n, samples[n]) for n in group]
        check(model, inputs, [samples[n] for n in group])


def check(
    model: S1,
    inputs: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    samples: list[dict[str, Any]],
) -> None:
    lengths = torch.tensor([[s["phonemes"], s["semantics"]] for s in samples])
    pad = torch.nn.utils.rnn.pad_sequence
    phonemes = pad([i[0] for i in inputs], batch_first=True)
    tokens = pad([i[1] for i in inputs], batch_first=True, padding_value=model.config.eos)
    bert = pad([i[2].T for i in inputs], batch_first=True).transpose(1, 2)
    with torch.no_grad():
        logits = model.logits(phonemes, lengths[:, 0], tokens, lengths[:, 1], bert)
    targets = model.targets(tokens, lengths[:, 1])
    losses = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORE, reduction="none")
    for row, sample in enumerate(samples):
        end = sample["semantics"]
        own = logits[row, : end + 1]
        assert close(losses[row].sum().item(), sample["ce_sum"])
        assert close(losses[row, 0].item(), sample["ce_first"])
        assert close(losses[row, end].item(), sample["ce_eos"])
        torch.testing.assert_close(
            own[0, :8], torch.tensor(sample["logits_0_first8"]), rtol=TOLERANCE, atol=1e-5
        )
        torch.testing.assert_close(
            own[end, :8], torch.tensor(sample["logits_last_first8"]), rtol=TOLERANCE, atol=1e-5
        )
        assert close(own.abs().mean().item(), sample["logits_abs_mean"])
