"""Conditional flow matching (Lipman et al. 2023): what is drawn for each clip, and the loss.

With noise z, a mel x1 and a time t the estimator sees x_t = (1 - (1 - s) t) z + t x1 and is to
give the velocity x1 - (1 - s) z, s = 1e-6.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pretrain.models.seed_vc.config import SeedVCConfig
from pretrain.models.seed_vc.length_regulator import before

SIGMA_MIN = 1e-6
CHUNK = 256
"""Frames of noise drawn at a time, so that a clip's noise does not depend on its padding."""


@dataclass(frozen=True)
class Draws:
    """Noise [B, n_mels, T], time [B], prompt frames int64 [B], ``keep`` [B]: 0 unconditioned."""

    noise: Tensor
    time: Tensor
    prompt_lengths: Tensor
    keep: Tensor


def draw(config: SeedVCConfig, keys: Sequence[str], lengths: Tensor, frames: int) -> Draws:
    """Draws for the clips ``keys`` of ``lengths`` [B] frames, on their device.

    They follow from torch's seed and the key alone; those of a batch from its seed.
    """
    device, seed = lengths.device, torch.initial_seed()
    drawn = torch.stack([_scalars(config, seed, key) for key in keys])
    scalars = drawn.to(device, non_blocking=True)
    time, prompt, has_prompt, keep = scalars.unbind(1)
    if config.dropout_per == "batch":
        keep = _scalars(config, seed, "")[3].to(device, non_blocking=True).expand(len(keys))
    prompt_lengths = (prompt * (lengths - 1) * has_prompt).floor().long()
    noise = noise_of(config.n_mels, frames, seed, keys, device)
    return Draws(noise, time, prompt_lengths, keep)


def noised(mel: Tensor, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    """The estimator's input, the prompt and the velocity to find, each [B, n_mels, T]."""
    time = draws.time[:, None, None]
    prompted = before(draws.prompt_lengths, mel.shape[2])[:, None]
    between = (1 - (1 - SIGMA_MIN) * time) * draws.noise + time * mel
    velocity = mel - (1 - SIGMA_MIN) * draws.noise
    return between.masked_fill(prompted, 0.0), mel.masked_fill(~prompted, 0.0), velocity


def distance(
    found: Tensor, wanted: Tensor, prompt_lengths: Tensor, lengths: Tensor, squared: bool
) -> Tensor:
    """Mean distance of [B, n_mels, T] over each clip's frames after its prompt, float32 [B]."""
    counted = before(lengths, found.shape[2]) & ~before(prompt_lengths, found.shape[2])
    apart = found.float() - wanted.float()
    sizes = (apart.square() if squared else apart.abs()).mean(1)
    return sizes.masked_fill(~counted, 0.0).sum(1) / counted.sum(1).clamp(min=1)


def _generator(seed: int, key: str, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(zlib.crc32(f"{seed}/{key}".encode()))


def _scalars(config: SeedVCConfig, seed: int, key: str) -> Tensor:
    """Time, prompt as a share of the clip, whether there is one, and whether it is conditioned."""
    generator = _generator(seed, key, torch.device("cpu"))
    time, prompt, has_prompt, keep = torch.rand(4, generator=generator)
    if config.time_sampling == "logit_normal":
        time = torch.randn((), generator=generator).sigmoid()
    return torch.stack(
        [
            time,
            prompt,
            (has_prompt >= config.prompt_dropout).float(),
            (keep >= config.class_dropout).float(),
        ]
    )


def noise_of(
    channels: int, frames: int, seed: int, keys: Sequence[str], device: torch.device
) -> Tensor:
    """Normal noise [B, channels, frames] of the clips ``keys``, each by ``seed`` and its own."""
    return torch.stack([_noise(channels, frames, seed, key, device) for key in keys])


def _noise(channels: int, frames: int, seed: int, key: str, device: torch.device) -> Tensor:
    generator = _generator(seed, f"noise/{key}", device)
    chunks = [
        torch.randn(CHUNK, channels, generator=generator, device=device)
        for _ in range(0, frames, CHUNK)
    ]
    return torch.cat(chunks)[:frames].T
