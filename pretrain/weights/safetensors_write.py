"""Safetensors files written tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretrain.checkpoint.manifest import Manifest
from pretrain.checkpoint.restore import whole
from pretrain.checkpoint.safetensors_header import header
from pretrain.checkpoint.store import Store
from pretrain.weights.own import chosen_states
from pretrain.weights.safetensors_files import CONFIG
from shards.atomic import replacing

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
_ALIGNMENT = 8


def export(
    store: Store, name: str, manifest: Manifest, out: Path, *, dtype: str, ema: bool
) -> None:
    """Merge a checkpoint's weights, or their averages; memory for one parameter at a time.

    UserError where there are no averages at all.
    """
    states = chosen_states(manifest, store.place(name), ema=ema)
    state = manifest.state
    about = {"step": str(state.step), "epoch": f"{state.epoch:g}", CONFIG: json.dumps(state.config)}
    write(
        out,
        state.shapes,
        lambda of: whole(store, name, manifest, of, states[of]),
        DTYPES[dtype],
        about,
    )


def write(
    out: Path,
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], Tensor],
    kind: torch.dtype,
    about: Mapping[str, str],
) -> None:
    """Write what ``read`` gives for each name, as ``kind``, and the texts ``about`` it all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as aside, aside.open("wb") as file:
        file.write(_header(shapes, kind, about))
        for of in shapes:
            values = read(of).to(kind).contiguous()
            file.write(values.view(-1).view(torch.uint8).numpy().data)


def _header(
    shapes: Mapping[str, tuple[int, ...]], kind: torch.dtype, about: Mapping[str, str]
) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt", **about}}
    at = 0
    for of, shape in shapes.items():
        end = at + kind.itemsize * torch.Size(shape).numel()
        entries[of] = {"dtype": _NAMES[kind], "shape": list(shape), "data_offsets": [at, end]}
        at = end
    return header(entries, _ALIGNMENT)
