"""Mel-frequency cepstra of 16 kHz audio, at the rate a feature wants."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shards.audio import Audio
from shards.features.sound import long_enough

SAMPLE_RATE = 16_000
_PER_SECOND = 100
_INT16_SCALE = 32_768.0

Floats = NDArray[np.float32]


def centred_mfcc(audio: Audio, per_second: int) -> Floats:
    """[frames, 39], zero mean over the clip; frames is floor(per_second * seconds) +- 1.

    13 MFCCs with first and second differences; ``per_second`` divides 100, of whose frames each is
    a mean. ValueError for a clip under 0.1 s.
    """
    frames = _mfcc100(long_enough(audio).at(SAMPLE_RATE).samples)
    each = _PER_SECOND // per_second
    groups = len(frames) // each
    averaged = frames[: groups * each].reshape(groups, each, -1).mean(1)
    centred: Floats = averaged - averaged.mean(0)
    return centred


def _mfcc100(samples: Floats) -> Floats:
    """[frames, 39] at 100 Hz: MFCCs, first and second differences."""
    import torch
    import torchaudio

    # Kaldi's energies are those of int16 samples; its floor would swallow quiet -1..1 audio.
    wave = torch.from_numpy(samples * np.float32(_INT16_SCALE))[None]
    mfcc = torchaudio.compliance.kaldi.mfcc(
        wave, sample_frequency=SAMPLE_RATE, snip_edges=False, use_energy=False
    ).T
    delta = torchaudio.functional.compute_deltas(mfcc)
    stacked = torch.cat([mfcc, delta, torchaudio.functional.compute_deltas(delta)])
    frames: Floats = stacked.T.numpy()
    return frames
