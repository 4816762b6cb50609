"""Log-mel spectrograms with the exact parameters of published models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

FLOOR = 1e-5
"""Where energies are clamped: silence is ln(1e-5) = -11.5129."""

MelPreset = Literal[
    "seed_vc_22k",
    "seed_vc_22k_hifigan",
    "seed_vc_44k",
    "gpt_sovits_s2",
    "gpt_sovits_v3",
    "gpt_sovits_v4",
]


@dataclass(frozen=True)
class MelParameters:
    """What decides a spectrogram; the window is as long as the transform, ``f_min`` is 0.

    ``f_max`` None is half the sample rate. ``epsilon`` stands under the root of the magnitude;
    ``unit_range`` are the log values that become -1 and 1, None leaves them alone.
    """

    sample_rate: int
    n_fft: int
    hop: int
    n_mels: int
    epsilon: float
    f_max: float | None = None
    unit_range: tuple[float, float] | None = None


# Seed-VC: modules/audio.py and its configs/presets. GPT-SoVITS: module/mel_processing.py and, for
# v3 and v4, module/data_utils.py.
PRESETS: dict[MelPreset, MelParameters] = {
    "seed_vc_22k": MelParameters(22_050, 1024, 256, 80, 1e-9),
    "seed_vc_22k_hifigan": MelParameters(22_050, 1024, 256, 80, 1e-9, f_max=8000.0),
    "seed_vc_44k": MelParameters(44_100, 2048, 512, 128, 1e-9),
    "gpt_sovits_s2": MelParameters(32_000, 2048, 640, 128, 1e-8),
    "gpt_sovits_v3": MelParameters(24_000, 1024, 256, 100, 1e-8, unit_range=(-12.0, 2.0)),
    "gpt_sovits_v4": MelParameters(32_000, 1280, 320, 100, 1e-8, unit_range=(-12.0, 2.0)),
}


def mel_spectrogram(samples: torch.Tensor, parameters: MelParameters) -> torch.Tensor:
    """``[..., L]`` at ``parameters.sample_rate`` -> ``[..., n_mels, L // hop]``, float32.

    ``ln(max(mel @ sqrt(|stft|^2 + epsilon), 1e-5))``: Hann window, (n_fft - hop) / 2 samples of
    reflection at either end instead of centred frames, Slaney's scale and area normalisation. A
    signal of no more samples than are reflected is a ValueError.
    """
    import torch

    margin = (parameters.n_fft - parameters.hop) // 2
    if samples.shape[-1] <= margin:
        raise ValueError("audio too short for a mel spectrogram")
    flat = samples.reshape(-1, samples.shape[-1]).float()
    # A training step may run in half precision; the spectrogram is exact there too.
    with torch.autocast(samples.device.type, enabled=False):
        logs = _logs(flat, margin, parameters)
    return logs.reshape(*samples.shape[:-1], *logs.shape[-2:])


def _logs(samples: torch.Tensor, margin: int, parameters: MelParameters) -> torch.Tensor:
    import torch

    spectrum = torch.stft(
        torch.nn.functional.pad(samples, (margin, margin), mode="reflect"),
        parameters.n_fft,
        hop_length=parameters.hop,
        window=_window(parameters.n_fft, samples.device),
        center=False,
        return_complex=True,
    )
    power = spectrum.real.square() + spectrum.imag.square()
    mel = mel_filters(parameters, samples.device) @ torch.sqrt(power + parameters.epsilon)
    return _ranged(torch.log(mel.clamp(min=FLOOR)), parameters)


def _ranged(logs: torch.Tensor, parameters: MelParameters) -> torch.Tensor:
    if parameters.unit_range is None:
        return logs
    low, high = parameters.unit_range
    return (logs - low) / (high - low) * 2 - 1


@contextmanager
def _for_good() -> Iterator[None]:
    """Tensors for any later use: neither of inference mode nor of one that computes nothing."""
    import torch
    from torch.utils._python_dispatch import _disable_current_modes

    with torch.inference_mode(False), _disable_current_modes():
        yield


@cache
def _window(length: int, device: torch.device) -> torch.Tensor:
    import torch

    with _for_good():
        return torch.hann_window(length, device=device)


@cache
def mel_filters(parameters: MelParameters, device: torch.device) -> torch.Tensor:
    """[n_mels, n_fft / 2 + 1], float32: triangles of area one on Slaney's scale."""
    import torchaudio

    with _for_good():
        bank: torch.Tensor = torchaudio.functional.melscale_fbanks(
            parameters.n_fft // 2 + 1,
            0.0,
            parameters.f_max or parameters.sample_rate / 2,
            parameters.n_mels,
            parameters.sample_rate,
            norm="slaney",
            mel_scale="slaney",
        )
        return bank.T.contiguous().to(device)
