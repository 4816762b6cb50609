"""A clip's mel spectrogram and a sampled one, to be seen and heard."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pretrain.models.picture import coloured
from pretrain.models.protocol import Preview, Sound
from pretrain.models.seed_vc.griffin_lim import griffin_lim
from shards.features.mel_spectrogram import MelParameters

RULE = 4
"""Rows between the two spectrograms."""


def previewed(
    keys: Sequence[str],
    mel: Tensor,
    found: Tensor,
    lengths: Tensor,
    prompts: Tensor,
    parameters: MelParameters,
) -> list[Preview]:
    """The clips ``keys`` of ``lengths`` [B] frames; ``mel`` and ``found`` [B, n_mels, T].

    The first ``prompts`` [B] frames of ``found`` were given.
    """
    previews = []
    for number, key in enumerate(keys):
        frames = int(lengths[number])
        target, sample = mel[number, :, :frames], found[number, :, :frames]
        picture = one_above_the_other(target, sample, int(prompts[number]))
        sounds = {
            name: Sound(griffin_lim(one, parameters), parameters.sample_rate)
            for name, one in (("target", target), ("sampled", sample))
        }
        previews.append(Preview(key, {"mel": picture}, sounds))
    return previews


def one_above_the_other(target: Tensor, sample: Tensor, prompt: int) -> Tensor:
    """RGB, uint8 [2 n_mels + RULE, T, 3]: the target, a rule that is white over the prompt, and
    the sample, in the colours of the target's values; low frequencies lie lowest.
    """
    low, high = float(target.min()), float(target.max())
    rule = torch.zeros(RULE, target.shape[1], 3, dtype=torch.uint8)
    rule[:, :prompt] = 255
    above, below = (coloured(one.flip(0), low, high) for one in (target, sample))
    return torch.cat([above, rule, below])
