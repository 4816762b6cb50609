"""A checkpoint's weights as GPT-SoVITS releases its s1 models.

A file of torch.save with ``weight`` (float16, names below ``model.``), ``config`` (what
`release_config` gives) and ``info`` ("GPT-e" and the epoch): what upstream's trainer and its
inference programs load.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from pretrain.checkpoint.manifest import Manifest
from pretrain.checkpoint.restore import whole
from pretrain.checkpoint.store import Store
from pretrain.models.gpt_sovits_s1.config import S1Config
from pretrain.models.gpt_sovits_s1.model import S1
from pretrain.models.gpt_sovits_s1.upstream import MAX_SECONDS, release_config
from pretrain.weights.own import chosen_states
from pretrain.weights.safetensors_write import DTYPES
from shards.atomic import replacing
from shards.errors import UserError


def export(
    store: Store, name: str, manifest: Manifest, out: Path, *, dtype: str, ema: bool
) -> None:
    """Write all weights, or their averages.

    UserError for a checkpoint of another model, and where there are no averages at all.
    """
    where = store.place(name)
    config = _model_config(manifest, where)
    states, kind = chosen_states(manifest, where, ema=ema), DTYPES[dtype]
    weight = OrderedDict(
        (f"model.{of}", whole(store, name, manifest, of, states[of]).to(kind))
        for of in _names(config, manifest, where)
    )
    longest = (manifest.state.config.get("data") or {}).get("max_seconds") or MAX_SECONDS
    saved = {
        "weight": weight,
        "config": release_config(config, int(longest) if longest == int(longest) else longest),
        "info": f"GPT-e{int(manifest.state.epoch)}",
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as aside, aside.open("wb") as file:
        torch.save(saved, file)


def _model_config(manifest: Manifest, where: str) -> S1Config:
    recorded: dict[str, Any] = manifest.state.config.get("model") or {}
    try:
        return S1Config.model_validate({"name": "nothing", **recorded})
    except ValidationError as error:
        raise UserError(
            f"--to gpt-sovits-s1: {where} is of model.name={recorded.get('name', 'unknown')}; "
            "write --to safetensors"
        ) from error


def _names(config: S1Config, manifest: Manifest, where: str) -> list[str]:
    """The model's parameters in upstream's order; UserError if they are not the checkpoint's."""
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in S1(config).state_dict().items()}
    if shapes != manifest.state.shapes:
        raise UserError(
            f"--to gpt-sovits-s1: the parameters of {where} are not those of its model.*; write "
            "--to safetensors"
        )
    return list(shapes)
