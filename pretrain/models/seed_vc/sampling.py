"""Sampling a mel spectrogram: Euler's method along the velocity, from noise to speech."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pretrain.models.seed_vc.flow import noise_of
from pretrain.models.seed_vc.length_regulator import before

PROMPT_SHARE = 1 / 3
"""Of a clip's frames: they are given, the others are sampled."""
SEED = 0
Estimate = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""A noised mel, the prompt (both [B, n_mels, T]), the time and 0 or 1 for without or with
conditions (both [B]) to a velocity [B, n_mels, T]."""
Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The same without the last."""


def prompts_of(lengths: Tensor) -> Tensor:
    """The prompt's frames, int64 [B], in clips of ``lengths`` [B]."""
    return (lengths * PROMPT_SHARE).long()


def start_of(channels: int, frames: int, keys: Sequence[str], device: torch.device) -> Tensor:
    """Noise [B, channels, frames]: of a clip always the same, whatever device."""
    return noise_of(channels, frames, SEED, keys, torch.device("cpu")).to(device)


def guided(estimate: Estimate, guidance: float) -> Velocity:
    """(1 + g) times the velocity with conditions less g times that without, g ``guidance``.

    Classifier-free guidance (Ho & Salimans 2022, formula 6).
    """

    def velocity(x: Tensor, prompt: Tensor, time: Tensor) -> Tensor:
        conditioned = estimate(x, prompt, time, torch.ones_like(time)).float()
        if not guidance:
            return conditioned
        free = estimate(x, prompt, time, torch.zeros_like(time)).float()
        return (1 + guidance) * conditioned - guidance * free

    return velocity


def sampled(velocity: Velocity, noise: Tensor, mel: Tensor, prompts: Tensor, steps: int) -> Tensor:
    """A mel [B, n_mels, T] in ``steps`` even steps from ``noise`` at time 0 to time 1.

    The first ``prompts`` [B] frames are those of ``mel``; as in training the estimator finds zeros
    in their place.
    """
    prompted = before(prompts, mel.shape[2])[:, None]
    prompt = mel.masked_fill(~prompted, 0.0)
    x = noise.masked_fill(prompted, 0.0)
    for step in range(steps):
        time = noise.new_full((len(noise),), step / steps)
        x = (x + velocity(x, prompt, time) / steps).masked_fill(prompted, 0.0)
    return x + prompt
