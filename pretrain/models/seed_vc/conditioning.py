"""Content and voice of a batch, computed from its audio by encoders that are no part of the model.

They are kept per process and not per model: no parameter list, checkpoint or ZeRO stage knows them,
and nothing that is done to the model (train mode, copies, casts) reaches them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from pretrain.models.seed_vc.online import OnlineConfig, encoders
from shards.audio import MIN_SECONDS
from shards.collate import Batch

_KERNEL = {
    "lowpass_filter_width": 96,
    "rolloff": 0.955,
    "resampling_method": "sinc_interp_kaiser",
    "beta": 14.77,
}
"""Nearest to soxr, which packing resamples with: of white noise at 22.05 kHz, brought to 16 kHz,
what differs is 102 dB below the signal up to 4 kHz, 61 dB at 7 to 7.3 kHz, 17 dB at 7.8 to 8."""


def conditioned(batch: Batch, online: OnlineConfig, sample_rate: int) -> Batch:
    """``batch`` with ``content`` [B, channels, S] and ``style`` [B, channels] of its ``audio``.

    The audio has ``sample_rate``. A clip's features are float32, the same in any company but for
    rounding, and carry no gradient. A clip under MIN_SECONDS counts as followed by silence.
    """
    with _apart(batch.arrays["audio"].device):
        found = encoders(online)
        rates = {found.content.sample_rate, found.style.sample_rate}
        clips = {rate: _clips(batch, sample_rate, rate) for rate in rates}
        content = found.content.encoded(clips[found.content.sample_rate])
        style = torch.stack(found.style.encoded(clips[found.style.sample_rate]))
        lengths = torch.tensor([one.shape[1] for one in content], device=style.device)
        widths = torch.full_like(lengths, style.shape[1])
        padded = pad_sequence([one.T for one in content], batch_first=True).transpose(1, 2)
    return replace(
        batch,
        arrays={**batch.arrays, "content": padded, "style": style},
        lengths={**batch.lengths, "content": lengths, "style": widths},
    )


@contextmanager
def _apart(device: torch.device) -> Iterator[None]:
    """Without gradients, in float32, and without a trace in torch's random numbers.

    Models draw weights before they load them, and wav2vec 2.0 and Whisper draw a number for each
    layer even in eval mode. What is cached here also outlives a caller's inference mode.
    """
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast(device.type, enabled=False),
        torch.random.fork_rng(devices=()),
    ):
        yield


def _clips(batch: Batch, own: int, wanted: int) -> list[Tensor]:
    """The clips [samples] at the rate ``wanted``, as many samples of each as soxr would give."""
    # Not with this module: that may be while a model is outlined on the device meta, where
    # torchaudio would lay its constants too.
    from torchaudio.functional import resample

    audio = batch.arrays["audio"].float()
    if own != wanted:
        audio = resample(audio, own, wanted, **_KERNEL)
    sizes = (2 * batch.lengths["audio"] * wanted + own) // (2 * own)
    least = round(MIN_SECONDS * wanted)
    audio = pad(audio, (0, max(0, least - audio.shape[1])))
    return [clip[: max(size, least)] for clip, size in zip(audio, sizes.tolist(), strict=True)]
