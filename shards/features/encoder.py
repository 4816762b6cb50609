"""Encoders of sound that never train: the same numbers while packing and in a training step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from shards.clip import Clip
from shards.features.sound import sound_of

if TYPE_CHECKING:
    import torch


class Encoder(Protocol):
    """Clips of sound to content [channels, frames] or to a voice [channels] each."""

    @property
    def sample_rate(self) -> int:
        """What the clips are to have."""
        ...

    @property
    def channels(self) -> int:
        """The length of the first axis."""
        ...

    def encoded(self, clips: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """float32 of each clip [samples] in -1..1, on the clips' device, where it takes its model.

        A clip gives the same in any company, but for rounding; none is under MIN_SECONDS.
        """
        ...


def encoded_alone(encoder: Encoder, clip: Clip, device: str = "cpu") -> NDArray[np.float32]:
    """What a clip gives, computed on ``device``; ValueError for audio that is too short."""
    import torch

    samples = sound_of(clip).at(encoder.sample_rate).samples
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.inference_mode(), exact:  # as in a training step
        (found,) = encoder.encoded([torch.from_numpy(samples).to(device)])
    values: NDArray[np.float32] = found.cpu().numpy()
    return values
