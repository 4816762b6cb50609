"""Weights as GPT-SoVITS releases its s1 models.

A file of torch.save with ``weight`` (float16, names below ``model.``), ``config`` (what
`release_config` gives) and ``info`` ("GPT-e" and the epoch): what upstream's trainer and its
inference programs load.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from pretrain.models.gpt_sovits_s1.config import S1Config
from pretrain.models.gpt_sovits_s1.model import S1
from pretrain.models.gpt_sovits_s1.upstream import MAX_SECONDS, release_config, sizes
from pretrain.weights.found import S1 as S1_RELEASE
from pretrain.weights.found import Weights
from pretrain.weights.safetensors_write import DTYPES
from shards.atomic import replacing
from shards.errors import UserError


def export(weights: Weights, out: Path, dtype: str) -> Path:
    """Write an s1 model's weights, and name the file. UserError for those of another model."""
    config, kind = _model_config(weights), DTYPES[dtype]
    weight = OrderedDict(
        (f"model.{name}", weights.tensors[name].to(kind)) for name in _names(config, weights)
    )
    longest = _longest(weights.config.get("data") or {})
    saved = {
        "weight": weight,
        "config": release_config(config, int(longest) if longest == int(longest) else longest),
        "info": weights.info or f"GPT-e{int(weights.epoch or 0)}",
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as aside, aside.open("wb") as file:
        torch.save(saved, file)
    return out


def _longest(data: Mapping[str, Any]) -> float:
    """The longest clip in seconds, as a run's config or a release's says."""
    return float(data.get("max_seconds") or data.get("max_sec") or MAX_SECONDS)


def _model_config(weights: Weights) -> S1Config:
    recorded: dict[str, Any] = weights.config.get("model") or {}
    if weights.kind != S1_RELEASE:
        try:
            return S1Config.model_validate({"name": "nothing", **recorded})
        except ValidationError as error:
            raise UserError(
                f"--to gpt-sovits-s1: {weights.place} is of model.name="
                f"{recorded.get('name', 'unknown')}; write --to safetensors"
            ) from error
    return S1Config.model_validate(sizes(weights.config))


def _names(config: S1Config, weights: Weights) -> list[str]:
    """The model's parameters in upstream's order; UserError if they are not the weights'."""
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in S1(config).state_dict().items()}
    if shapes != {name: tuple(weights.outline(name).shape) for name in weights.tensors}:
        raise UserError(
            f"--to gpt-sovits-s1: the parameters of {weights.place} are not those of its model.*; "
            "write --to safetensors"
        )
    return list(shapes)
