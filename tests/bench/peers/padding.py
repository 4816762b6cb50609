"""Clips of unequal length to one right-padded tensor per field."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
import torch
from reading import TOKENS

Array = np.ndarray[Any, Any]
Row = Array | Sequence[int]
Batch = dict[str, torch.Tensor]  # each field, and FIELD_lengths


def pad(field: str, rows: Sequence[Row], dtype: type) -> Batch:
    """Right-pad 1-D arrays with zeros: [clips, longest], and their lengths."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    padded: Array = np.zeros((len(rows), lengths.max()), dtype)
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    return {field: torch.from_numpy(padded), f"{field}_lengths": torch.from_numpy(lengths)}


def pad_tokens(clips: Sequence[dict[str, Row]]) -> Batch:
    """Both token arrays of some clips as int64."""
    batch: Batch = {}
    for field in TOKENS:
        batch |= pad(field, [clip[field] for clip in clips], np.int64)
    return batch


def pad_audio(clips: Sequence[Array]) -> Batch:
    """The waveforms of some clips as float32."""
    return pad("audio", clips, np.float32)


def decode(flac: bytes) -> Array:
    """One mono FLAC file's samples."""
    samples: Array = soundfile.read(io.BytesIO(flac), dtype="float32")[0]
    return samples


@dataclass(frozen=True)
class Collate:
    """Pads clips stored as plain bytes; a loader's workers call it."""

    kind: str
    dtypes: dict[str, str]

    def __call__(self, clips: Sequence[dict[str, bytes]]) -> Batch:
        if self.kind == "audio":
            return pad_audio([decode(clip["audio"]) for clip in clips])
        batch: Batch = {}
        for field, dtype in self.dtypes.items():
            batch |= pad(field, [np.frombuffer(clip[field], dtype) for clip in clips], np.int64)
        return batch
