"""A checkpoint's weights merged into one file, and compared with another's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from pretrain.checkpoint.manifest import EMA, MASTER, Manifest
from pretrain.checkpoint.restore import whole
from pretrain.checkpoint.safetensors_header import header
from pretrain.checkpoint.store import Store
from shards.atomic import replacing
from shards.errors import UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
_ALIGNMENT = 8


def export(
    store: Store, name: str, manifest: Manifest, out: Path, *, dtype: str, ema: bool
) -> None:
    """Write all weights, or their averages, into one safetensors file; memory for one at a time.

    What did not train has no average: its weights are written. UserError where there are no
    averages at all.
    """
    averaged = {of for of, pieces in manifest.pieces.items() if ema and EMA in pieces[0].offsets}
    if ema and not averaged:
        raise UserError(
            f"--ema: {store.place(name)} holds no averages; train with optimizer.ema_decay, or "
            "leave --ema out"
        )
    kind = DTYPES[dtype]
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as aside, aside.open("wb") as file:
        file.write(_header(manifest, kind))
        for of in manifest.state.shapes:
            key = EMA if of in averaged else MASTER
            values = whole(store, name, manifest, of, key).to(kind)
            file.write(values.view(-1).view(torch.uint8).numpy().data)


def _header(manifest: Manifest, kind: torch.dtype) -> bytes:
    tensors, at = {}, 0
    for of, shape in manifest.state.shapes.items():
        end = at + kind.itemsize * torch.Size(shape).numel()
        tensors[of] = {"dtype": _NAMES[kind], "shape": list(shape), "data_offsets": [at, end]}
        at = end
    about = {"format": "pt", "step": str(manifest.state.step)}
    return header({"__metadata__": about, **tensors}, _ALIGNMENT)


def differences(
    one: tuple[Store, str, Manifest], other: tuple[Store, str, Manifest]
) -> Iterator[tuple[str, float, float]]:
    """(parameter, norm in ``one``, norm of the change to ``other``), for those in both."""
    shapes = one[2].state.shapes
    for of, shape in other[2].state.shapes.items():
        if shapes.get(of) == shape:
            before, after = whole(*one, of), whole(*other, of)
            yield of, float(before.norm()), float((after - before).norm())
