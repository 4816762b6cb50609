"""Bytes of a clip's members into arrays, by extension."""

from __future__ import annotations

import ast
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
import torch

from shards.index import AUDIO_FORMATS
from shards.room import room

Decoder = Callable[[bytes], Any]
_HEADER = 128
"""Bytes before the numbers in a .npy file of version 1, unless its dtype is a long story."""


def decode_npy(data: bytes) -> npt.NDArray[Any]:
    """The array of a .npy file, a view of ``data``; ValueError if it is none."""
    facts = _npy_header(data[:_HEADER])
    if facts is None:
        loaded: npt.NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
        return loaded
    array = np.frombuffer(data, facts[0], -1, _HEADER)
    return array if facts[1] == array.shape else array.reshape(facts[1])


@dataclass(frozen=True)
class Ragged:
    """Arrays [length] of one dtype, end to end; ``lengths`` int64 [arrays]."""

    flat: npt.NDArray[Any]
    lengths: npt.NDArray[np.int64]

    def arrays(self) -> list[npt.NDArray[Any]]:
        """Each array as a view."""
        return np.split(self.flat, np.cumsum(self.lengths[:-1]))

    def split(self, counts: Sequence[int]) -> Iterator[Ragged]:
        """The first ``counts[0]`` arrays, the next ``counts[1]``, ..."""
        first = start = 0
        for count in counts:
            lengths = self.lengths[first : first + count]
            end = start + int(lengths.sum())
            yield Ragged(self.flat[start:end], lengths)
            first, start = first + count, end


@dataclass(frozen=True)
class Padded:
    """Arrays as the rows of a float32 tensor [arrays, longest] with zeros after each's end."""

    array: torch.Tensor
    lengths: npt.NDArray[np.int64]

    def arrays(self) -> list[npt.NDArray[np.float32]]:
        """Each array as a view."""
        rows = zip(self.array.numpy(), self.lengths.tolist(), strict=True)
        return [row[:length] for row, length in rows]

    def split(self, counts: Sequence[int]) -> Iterator[Padded]:
        """The first ``counts[0]`` arrays, the next ``counts[1]``, ..."""
        first = 0
        for count in counts:
            lengths = self.lengths[first : first + count]
            yield Padded(self.array[first : first + count, : int(lengths.max())], lengths)
            first += count


Column = Ragged | Padded | list[Any]
"""One member of several clips, decoded; a clip without it has None, which Ragged cannot say."""


def decode_npy_column(files: Sequence[bytes]) -> Column:
    """Many .npy files at once; ValueError as `decode_npy`."""
    # Short arrays cost more as objects than as numbers: one view of all of them instead.
    heads = [_npy_header(file[:_HEADER]) for file in files]
    first = heads[0]
    if first is None or not all(
        head is not None and head[0] == first[0] and len(head[1]) == 1 for head in heads
    ):
        return [decode_npy(file) for file in files]
    flat = np.frombuffer(b"".join([file[_HEADER:] for file in files]), first[0])
    lengths = np.array([head[1][0] for head in heads if head], dtype=np.int64)
    if lengths.sum() != len(flat):
        raise ValueError("an .npy file does not hold what its header says")
    return Ragged(flat, lengths)


@lru_cache(maxsize=8192)
def _npy_header(head: bytes) -> tuple[np.dtype[Any], tuple[int, ...]] | None:
    """Dtype and shape of an array in C order; None for what only numpy itself should read."""
    # Parsing costs more than all else; clips of one length share their header.
    if head[:8] != b"\x93NUMPY\x01\x00" or int.from_bytes(head[8:10], "little") != _HEADER - 10:
        return None
    facts = ast.literal_eval(head[10:].decode("latin1"))
    dtype = np.dtype(facts["descr"])
    return None if facts["fortran_order"] or dtype.hasobject else (dtype, facts["shape"])


def decode_audio(data: bytes) -> tuple[npt.NDArray[np.float32], int]:
    """Mono samples in -1..1, float32 [samples], and their rate.

    Raises soundfile.LibsndfileError for what libsndfile cannot decode.
    """
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        samples = file.read(dtype="float32", always_2d=file.channels > 1)
        rate = int(file.samplerate)
    return (samples.mean(axis=1) if samples.ndim > 1 else samples), rate


def decode_audio_column(files: Sequence[bytes], rate: int | None) -> Column:
    """Audio of many clips, mono at ``rate`` or, where that is None, at their own rates.

    Raises as `decode_audio`, and ValueError for audio that ends before its header says.
    """
    opened = [soundfile.SoundFile(io.BytesIO(file)) for file in files]
    if any(file.channels > 1 or rate not in (None, file.samplerate) for file in opened):
        return [_resampled(*decode_audio(file), rate) for file in files]
    # Decoded to where the batch will be: a copy of each clip would cost a tenth of decoding it.
    lengths = np.array([file.frames for file in opened], dtype=np.int64)
    padded = room((len(files), int(lengths.max())), "float32")
    for row, file, length in zip(padded.numpy(), opened, lengths.tolist(), strict=True):
        if len(file.read(out=row[:length])) != length:
            raise ValueError("the audio ends before its header says")
        row[length:] = 0
        file.close()
    return Padded(padded, lengths)


def _resampled(
    samples: npt.NDArray[np.float32], own: int, rate: int | None
) -> npt.NDArray[np.float32]:
    if rate in (None, own):
        return samples
    resampled: npt.NDArray[np.float32] = soxr.resample(samples, own, rate)
    return resampled


DECODERS: Mapping[str, Decoder] = {
    "npy": decode_npy,
    "json": json.loads,
    "txt": bytes.decode,
    **dict.fromkeys(AUDIO_FORMATS, decode_audio),
}
"""What members become by the last part of their extension; a stream takes others beside."""

CANNOT_DECODE = (ValueError, KeyError, SyntaxError, EOFError, soundfile.LibsndfileError)
"""What decoders raise for damaged bytes."""
