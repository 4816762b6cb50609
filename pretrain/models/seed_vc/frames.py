"""The mel spectrograms of a padded batch."""

from __future__ import annotations

import torch
from torch import Tensor

from pretrain.models.seed_vc.length_regulator import before
from shards.collate import Batch
from shards.features.mel_spectrogram import MelParameters, mel_spectrogram

PADDING = -10.0
"""What upstream pads spectrograms with."""


def padded_mel(batch: Batch, parameters: MelParameters) -> tuple[Tensor, Tensor]:
    """Spectrograms [B, n_mels, T] and their frames, int64 [B]: L // hop of L samples.

    Each clip is the same as alone: it is reflected at its own end. A batch of clips as short as
    the reflection (n_fft - hop) / 2 is a ValueError.
    """
    audio, lengths = batch.arrays["audio"], batch.lengths["audio"]
    margin = (parameters.n_fft - parameters.hop) // 2
    place = torch.arange(audio.shape[1] + margin, device=audio.device)[None]
    last = lengths[:, None] - 1
    mirrored = torch.where(place <= last, place, 2 * last - place).clamp(min=0)
    mel = mel_spectrogram(audio.gather(1, mirrored), parameters)
    frames = lengths // parameters.hop
    mel = mel[:, :, : audio.shape[1] // parameters.hop]
    return mel.masked_fill(~before(frames, mel.shape[2])[:, None], PADDING), frames
