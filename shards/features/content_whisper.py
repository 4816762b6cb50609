"""What is said, as Whisper's encoder hears it: the content of most Seed-VC models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shards.clip import Clip
from shards.errors import UserError
from shards.features.encoder import encoded_alone
from shards.features.model_folder import ModelFolder, Wanted, best_device, load_model
from shards.section import Section

if TYPE_CHECKING:
    import torch

    from shards.pack.config import PackConfig

SAMPLE_RATE = 16_000
_PER_SECOND = 50
_SAMPLES_PER_FRAME = SAMPLE_RATE // _PER_SECOND

_FFT, _HOP = 400, 160
_WINDOWS_AT_ONCE = 16
"""0.3 GB for the widest layer of whisper-small."""


class WhisperConfig(Section):
    """``whisper``: the model of content.whisper."""

    model: str | None = Field(default=None, description="folder of a transformers Whisper model")


@dataclass(frozen=True)
class WhisperContent:
    """``content.whisper``: float16 [hidden, frames] at 50 Hz, the encoder's last states.

    A clip of L samples at 16 kHz has L // 320 + 1 frames, or L / 320 where it fills its window.
    """

    model: ModelFolder

    member: ClassVar[str] = "content.npy"
    sample_rate: ClassVar[int] = SAMPLE_RATE
    needs_text: ClassVar[bool] = False
    needs_audio: ClassVar[bool] = True

    @classmethod
    def configured(cls, config: PackConfig, out: Path) -> WhisperContent:
        """With the model that ``whisper`` names."""
        return cls.of(config.whisper, "whisper")

    @classmethod
    def of(cls, config: WhisperConfig, section: str) -> WhisperContent:
        """UserError without a model, or for a folder of another kind.

        ``section`` is where ``config`` stands.
        """
        wanted = Wanted("a transformers Whisper model", "whisper", "whatever else came with it")
        model = ModelFolder.opened(f"{section}.model", config.model, wanted)
        model.number("num_mel_bins")
        if model.number("max_source_positions") % _PER_SECOND:
            raise UserError(
                f"{model.option}: 'max_source_positions' of the config.json in {model.path} is no "
                f"multiple of {_PER_SECOND}; give the model's own config.json"
            )
        return cls(model)

    @property
    def channels(self) -> int:
        """The width of the encoder."""
        return self.model.number("d_model")

    def compute(self, clip: Clip) -> NDArray[Any]:
        """The states of the clip's audio; ValueError for audio that is too short."""
        return np.ascontiguousarray(encoded_alone(self, clip, best_device()), np.float16)

    def encoded(self, clips: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """[hidden, frames] of each clip, their windows in one batch."""
        import torch

        most = self.model.number("max_source_positions")
        parts = [
            _Part(number, clip[start : start + most * _SAMPLES_PER_FRAME], skipped)
            for number, clip in enumerate(clips)
            for start, skipped in windows(len(clip), most)
        ]
        states: list[list[torch.Tensor]] = [[] for _ in clips]
        for first in range(0, len(parts), _WINDOWS_AT_ONCE):
            some = parts[first : first + _WINDOWS_AT_ONCE]
            for part, found in zip(some, _states(self.model, some), strict=True):
                heard = len(part.samples) // _SAMPLES_PER_FRAME + 1
                states[part.clip].append(found[part.skipped : heard])
        return [torch.cat(found).T for found in states]

    def about(self) -> dict[str, Any]:
        """Rate and model."""
        return {
            "feature": "content.whisper",
            "per_second": _PER_SECOND,
            "model": self.model.about(),
        }


def windows(samples: int, most: int) -> Iterator[tuple[int, int]]:
    """(first sample, frames to leave out) of the windows, ``most`` frames each, over a clip.

    They stand end to end, but the last reaches back, so that it is full too.
    """
    window = most * _SAMPLES_PER_FRAME
    last = max(0, -(-(samples - window) // _SAMPLES_PER_FRAME))
    for first in range(0, last, most):
        yield first * _SAMPLES_PER_FRAME, 0
    yield last * _SAMPLES_PER_FRAME, -last % most


@dataclass(frozen=True, eq=False)
class _Part:
    """What one window holds of a clip, and how many of its frames an earlier one has."""

    clip: int
    samples: torch.Tensor
    skipped: int


def _states(folder: ModelFolder, parts: Sequence[_Part]) -> torch.Tensor:
    """[parts, frames of a whole window, hidden]: the rest of each window is silence."""
    size = folder.number("max_source_positions") * _SAMPLES_PER_FRAME
    filled = parts[0].samples.new_zeros(len(parts), size)
    for row, part in zip(filled, parts, strict=True):
        row[: len(part.samples)] = part.samples
    mel = log_mel(filled, folder.number("num_mel_bins"))
    states: torch.Tensor = _encoder(folder, filled.device)(mel).last_hidden_state
    return states


def log_mel(windows: torch.Tensor, bands: int) -> torch.Tensor:
    """[W, samples] at 16 kHz -> [W, bands, samples / 160], as every published Whisper takes them.

    Radford et al. 2022, arXiv:2212.04356, section 2.2: log10 of the power, at most 8 below the
    window's loudest, scaled to about -1..1.
    """
    import torch

    hann = torch.hann_window(_FFT, device=windows.device)
    spectrum = torch.stft(windows, _FFT, _HOP, window=hann, return_complex=True)[..., :-1]
    power = _filters(bands, windows.device) @ spectrum.abs().square()
    logs = power.clamp(min=1e-10).log10()
    return (torch.maximum(logs, logs.amax((1, 2), keepdim=True) - 8) + 4) / 4


@cache
def _filters(bands: int, device: torch.device) -> torch.Tensor:
    """[bands, 201] on Slaney's scale, up to 8 kHz."""
    import torchaudio

    bank: torch.Tensor = torchaudio.functional.melscale_fbanks(
        _FFT // 2 + 1, 0.0, 8000.0, bands, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
    )
    return bank.T.contiguous().to(device)


@cache
def _encoder(folder: ModelFolder, device: torch.device) -> Any:
    from transformers import WhisperModel

    return load_model(WhisperModel, folder, device).get_encoder()
