"""Sound of a log-mel spectrogram without a vocoder: Griffin & Lim 1984, as torchaudio has it."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from shards.features.mel_spectrogram import FLOOR, MelParameters, mel_filters

LOUDEST = 5.0
"""Natural log of a band; full scale stays below it, and what is beyond would drown the rest."""
QUIETEST = math.log(FLOOR)
ITERATIONS = 32


def griffin_lim(mel: Tensor, parameters: MelParameters) -> Tensor:
    """``mel`` [n_mels, T] as `mel_spectrogram` gives it to samples of -1 to 1, float32 on the CPU.

    (T - 1) * hop samples. Phases begin at zero: nothing is drawn.
    """
    import torchaudio  # not while this module is imported: its constants would be outlines too

    magnitude = magnitudes(mel, parameters)
    if mel.shape[1] * parameters.hop <= parameters.n_fft:  # no frame to be reflected
        return torch.zeros((mel.shape[1] - 1) * parameters.hop)
    samples: Tensor = torchaudio.functional.griffinlim(
        magnitude,
        torch.hann_window(parameters.n_fft, device=mel.device),
        parameters.n_fft,
        parameters.hop,
        parameters.n_fft,
        power=1.0,
        n_iter=ITERATIONS,
        momentum=0.99,
        length=None,
        rand_init=False,
    )
    samples = samples.nan_to_num(0.0).cpu()
    return samples / max(1.0, float(samples.abs().max()))


def magnitudes(mel: Tensor, parameters: MelParameters) -> Tensor:
    """The spectrum [n_fft / 2 + 1, T] nearest to ``mel`` by least squares, at least 0."""
    logs = mel.float().nan_to_num(QUIETEST).clamp(QUIETEST, LOUDEST)
    return (_inverse(parameters, mel.device) @ logs.exp()).clamp(min=0)


@cache
def _inverse(parameters: MelParameters, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        inverse: Tensor = torch.linalg.pinv(mel_filters(parameters, device))
        return inverse
