"""A checkpoint's weights merged into one safetensors file."""

from __future__ import annotations

import json
from pathlib import Path

import torch

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
    """Write all weights, or their averages, into one file; memory for one parameter at a time.

    UserError where there are no averages at all.
    """
    states, kind = chosen_states(manifest, store.place(name), ema=ema), DTYPES[dtype]
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as aside, aside.open("wb") as file:
        file.write(_header(manifest, kind))
        for of, key in states.items():
            values = whole(store, name, manifest, of, key).to(kind)
            file.write(values.view(-1).view(torch.uint8).numpy().data)


def _header(manifest: Manifest, kind: torch.dtype) -> bytes:
    tensors, at = {}, 0
    for of, shape in manifest.state.shapes.items():
        end = at + kind.itemsize * torch.Size(shape).numel()
        tensors[of] = {"dtype": _NAMES[kind], "shape": list(shape), "data_offsets": [at, end]}
        at = end
    state = manifest.state
    about = {
        "format": "pt",
        "step": str(state.step),
        "epoch": f"{state.epoch:g}",
        CONFIG: json.dumps(state.config),
    }
    return header({"__metadata__": about, **tensors}, _ALIGNMENT)
