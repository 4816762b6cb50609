"""Mel-frequency cepstra of 16 kHz audio, at the rate a feature wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shards.audio import Audio
from shards.features.sound import long_enough

if TYPE_CHECKING:
    import torch

SAMPLE_RATE = 16_000
DIMENSIONS = 39
_PER_SECOND = 100
_INT16_SCALE = 32_768.0

Floats = NDArray[np.float32]


def centred_mfcc(audio: Audio, per_second: int) -> Floats:
    """[frames, 39], zero mean over the clip; frames is floor(per_second * seconds) +- 1.

    13 MFCCs with first and second differences; ``per_second`` divides 100, of whose frames each is
    a mean. ValueError for a clip under 0.1 s.
    """
    import torch

    samples = torch.from_numpy(long_enough(audio).at(SAMPLE_RATE).samples)
    frames: Floats = mfcc(samples, per_second).numpy()
    return frames


def mfcc(samples: torch.Tensor, per_second: int) -> torch.Tensor:
    """The same of 16 kHz [samples] of 0.1 s or more, on their device."""
    frames = _mfcc100(samples)
    each = _PER_SECOND // per_second
    groups = len(frames) // each
    averaged = frames[: groups * each].view(groups, each, -1).mean(1)
    return averaged - averaged.mean(0)


def _mfcc100(samples: torch.Tensor) -> torch.Tensor:
    """[frames, 39] at 100 Hz: MFCCs, first and second differences."""
    import torch
    import torchaudio

    # Kaldi's energies are those of int16 samples; its floor would swallow quiet -1..1 audio.
    wave = (samples * _INT16_SCALE)[None]
    cepstra = torchaudio.compliance.kaldi.mfcc(
        wave, sample_frequency=SAMPLE_RATE, snip_edges=False, use_energy=False
    ).T
    delta = torchaudio.functional.compute_deltas(cepstra)
    stacked = torch.cat([cepstra, delta, torchaudio.functional.compute_deltas(delta)])
    return stacked.T.contiguous()
