"""How much Seed-VC computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pretrain.models.seed_vc.config import SeedVCConfig

Floats = npt.NDArray[np.float64]
TIME_CHANNELS = 256
FFN_MULTIPLE = 256
STAGES = 4
"""Convolutions of the length regulator, each three frames wide."""


@dataclass(frozen=True)
class Spans:
    """Clips' lengths, [clips] each: mel frames, frames of content, and of it in another timbre (0
    where there is none).
    """

    frames: Floats
    content: Floats
    other: Floats


def ffn_width(dim: int) -> int:
    """Inner channels of the feed-forward: two thirds of 4 D, rounded up."""
    return -(-(8 * dim // 3) // FFN_MULTIPLE) * FFN_MULTIPLE


def forward_flops(config: SeedVCConfig, spans: Spans) -> dict[str, Floats]:
    """FLOPs of forward passes over clips, [clips], by parameters' prefix in the order of data."""
    inner = "cfm.estimator."
    return {
        "length_regulator.": _regulator(config, spans),
        **{f"{inner}{name}": part for name, part in _entrance(config, spans.frames).items()},
        **{
            f"{inner}transformer.{name}": part
            for name, part in _transformer(config, spans.frames).items()
        },
        **{f"{inner}{name}": part for name, part in _head(config, spans.frames).items()},
    }


def _regulator(config: SeedVCConfig, spans: Spans) -> Floats:
    channels = config.content_dim
    passes = 1 + (spans.other > 0)
    stretched = 2 * spans.frames * (3 * STAGES + 1) * channels**2
    projected = 2 * (spans.content + spans.other) * config.content_channels * channels
    return projected + passes * stretched


def _entrance(config: SeedVCConfig, frames: Floats) -> dict[str, Floats]:
    dim, mels, once = config.hidden_dim, config.n_mels, np.ones_like(frames)
    style = config.style_dim
    beside = 0 if config.style_as_token else style
    embedders = 2 if config.head_type == "wavenet" else 1
    token = {"style_in.": 2 * once * style * dim} if config.style_as_token else {}
    return {
        "t_embedder": embedders * 2 * once * (TIME_CHANNELS + dim) * dim,
        "cond_projection.": 2 * frames * config.content_dim * dim,
        "cond_x_merge_linear.": 2 * frames * (dim + 2 * mels + beside) * dim,
        **token,
    }


def _transformer(config: SeedVCConfig, frames: Floats) -> dict[str, Floats]:
    dim, count = config.hidden_dim, config.n_layer
    length = frames + config.time_as_token + config.style_as_token
    modulated = 4 * np.ones_like(frames) * dim**2
    layer = 2 * length * (4 * dim**2 + 3 * dim * ffn_width(dim)) + 4 * length**2 * dim
    layer = layer + (0 if config.time_as_token else 2 * modulated)
    merging = layer + 4 * length * dim**2
    merges = range(count // 2 + 1, count) if config.uvit_skip else ()
    layers = {f"layers.{n}.": merging if n in merges else layer for n in range(count)}
    return layers | {"norm.": modulated}


def _head(config: SeedVCConfig, frames: Floats) -> dict[str, Floats]:
    dim, mels, once = config.hidden_dim, config.n_mels, np.ones_like(frames)
    skip = {"skip_linear.": 2 * frames * (dim + mels) * dim} if config.long_skip else {}
    if config.head_type == "mlp":
        return {**skip, "final_mlp.": 2 * frames * (dim + mels) * dim}
    waves, square = config.wavenet, 2 * frames * dim**2
    leaving = 2 * waves.layers - 1  # the last layer leaves by half
    return {
        **skip,
        "conv1.": square,
        "wavenet.": square * (2 * waves.kernel_size * waves.layers + leaving)
        + 4 * once * dim**2 * waves.layers,
        "res_projection.": square,
        "final_layer.": square + 4 * once * dim**2,
        "conv2.": 2 * frames * dim * mels,
    }
