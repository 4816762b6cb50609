"""The sizes of a Seed-VC model, told by its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pretrain.models.upstream import Shapes, Sizes

_HEAD_DIM = 64
"""Of an attention head in all of upstream's presets."""
_WIDE_MELS = 128
_ESTIMATOR, _REGULATOR = "cfm.estimator", "length_regulator"
_IN_LAYER = f"{_ESTIMATOR}.wavenet.in_layers"
# What is this long along this axis.
_LENGTHS = {
    "hidden_dim": (f"{_ESTIMATOR}.transformer.norm.norm.weight", 0),
    "content_channels": (f"{_REGULATOR}.content_in_proj.weight", 1),
    "content_dim": (f"{_REGULATOR}.content_in_proj.weight", 0),
    "content_codebook": (f"{_REGULATOR}.embedding.weight", 0),
    "n_f0_bins": (f"{_REGULATOR}.f0_embedding.weight", 0),
}


def sizes_of(shapes: Shapes) -> Sizes:
    """Of a v1 model's weights under our names; where tensors are missing, less.

    Assumed as in upstream's presets: heads of 64 channels; time is a token where style is one; the
    noised mel enters the wavenet head only; 80 channels end at 8 kHz where style is a token; the
    wavenet is not dilated.
    """
    found: dict[str, Any] = {
        key: shapes[name][axis]
        for key, (name, axis) in _LENGTHS.items()
        if len(shapes.get(name, ())) > axis
    }
    dim, mels = found.get("hidden_dim"), _length(shapes, f"{_ESTIMATOR}.x_embedder.weight_v", 1)
    if dim is None or mels is None:
        return Sizes({})
    wavenet = _count(shapes, _IN_LAYER)
    tokens = f"{_ESTIMATOR}.style_in.weight" in shapes
    found |= {
        "n_layer": _count(shapes, f"{_ESTIMATOR}.transformer.layers"),
        "head_type": "wavenet" if wavenet else "mlp",
        "style_as_token": tokens,
        "f0_condition": "n_f0_bins" in found,
    }
    if wavenet:
        kernel = _length(shapes, f"{_IN_LAYER}.0.conv.conv.weight_v", 2)
        told = {"layers": wavenet, "dilation_rate": 1}
        found["wavenet"] = told | ({"kernel_size": kernel} if kernel else {})
    style = _style_dim(shapes, dim, mels)
    if style:
        found["style_dim"] = style
    presumed = {
        "head": max(1, dim // _HEAD_DIM),
        "mel": _mel(mels, tokens=tokens),
        "time_as_token": tokens,
        "long_skip": wavenet > 0,
        "uvit_skip": True,
    }
    nested = ("wavenet.dilation_rate",) if wavenet else ()
    return Sizes(found | presumed, (*presumed, *nested))


def _style_dim(shapes: Shapes, dim: int, mels: int) -> int | None:
    token = _length(shapes, f"{_ESTIMATOR}.style_in.weight", 1)
    merged = _length(shapes, f"{_ESTIMATOR}.cond_x_merge_linear.weight", 1)
    return token or (merged - dim - 2 * mels if merged else None)


def _mel(channels: int, *, tokens: bool) -> str:
    if channels == _WIDE_MELS:
        return "seed_vc_44k"
    return "seed_vc_22k_hifigan" if tokens else "seed_vc_22k"


def _length(shapes: Shapes, name: str, axis: int) -> int | None:
    shape = shapes.get(name, ())
    return shape[axis] if len(shape) > axis else None


def _count(names: Iterable[str], prefix: str) -> int:
    """How many blocks are numbered behind ``prefix``."""
    numbered = (re.match(rf"{re.escape(prefix)}\.(\d+)\.", name) for name in names)
    return max((int(match[1]) + 1 for match in numbered if match), default=0)
