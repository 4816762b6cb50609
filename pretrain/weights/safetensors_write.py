"""Safetensors files written tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretrain.checkpoint.safetensors_header import header
from pretrain.weights.found import Weights
from pretrain.weights.safetensors_files import CONFIG
from shards.atomic import replacing
from shards.errors import UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_NAMES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ALIGNMENT = 8


def export(weights: Weights, out: Path, dtype: str) -> Path:
    """Merge weights into one file, and name it; memory for one parameter at a time.

    Whole numbers stay what they are. UserError for tensors that the format has no name for here.
    """
    outlines = {name: rounded(weights.outline(name), dtype) for name in weights.tensors}
    for name, outline in outlines.items():
        if outline.dtype not in _NAMES:
            raise UserError(
                f"{weights.place}: {name} is {outline.dtype}; leave it out of the file first"
            )
    step = {} if weights.step is None else {"step": str(weights.step)}
    epoch = {} if weights.epoch is None else {"epoch": f"{weights.epoch:g}"}
    about = {"format": "pt", **step, **epoch, CONFIG: json.dumps(weights.config)}
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as aside, aside.open("wb") as file:
        file.write(_header(outlines, about))
        for name in outlines:
            values = rounded(weights.tensors[name], dtype).contiguous()
            file.write(values.view(-1).view(torch.uint8).numpy().data)
    return out


def rounded(values: Tensor, dtype: str) -> Tensor:
    """``values`` as ``dtype``, unless they are whole numbers."""
    return values.to(DTYPES[dtype]) if values.is_floating_point() else values


def _header(outlines: Mapping[str, Tensor], about: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": dict(about)}
    at = 0
    for name, outline in outlines.items():
        end = at + outline.nbytes
        shape = list(outline.shape)
        entries[name] = {"dtype": _NAMES[outline.dtype], "shape": shape, "data_offsets": [at, end]}
        at = end
    return header(entries, _ALIGNMENT)
