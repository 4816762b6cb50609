"""A clip's members as the bytes of files, and what is told of them."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import soundfile
import xxhash

from shards.audio import Audio
from shards.sources.source import Members

_USUAL_RATES = (48_000, 88_200, 96_000, 176_400, 192_000, 352_800, 384_000)
"""Those that FLAC holds, from the largest under its limit for odd rates on."""


def npy(array: npt.NDArray[np.generic]) -> bytes:
    """The array as a .npy file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def flac(audio: Audio) -> bytes:
    """The audio as a FLAC file of 16 bits.

    At its own rate, or where FLAC cannot hold that, at the largest usual one below.
    """
    file = io.BytesIO()
    held = audio.at(_held_rate(audio.sample_rate))
    # soundfile has what lies beyond full scale clipped.
    soundfile.write(file, held.samples, held.sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _held_rate(rate: int) -> int:
    # The frame header has 16 bits for Hz or for tens of Hz.
    if rate <= 0xFFFF or (rate <= 0xFFFF * 10 and rate % 10 == 0):
        return rate
    return max(usual for usual in _USUAL_RATES if usual <= rate)


def lengths(members: Members) -> dict[str, int]:
    """The length of each array along its last axis, by the name of its column in the index."""
    return {name: array.shape[-1] for name, array in _arrays(members) if array.ndim}


def largest(members: Members) -> dict[str, int]:
    """The largest value of each array of integers."""
    return {
        name: int(array.max())
        for name, array in _arrays(members)
        if np.issubdtype(array.dtype, np.integer) and array.size
    }


def _arrays(members: Members) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
    for name, member in members.items():
        if isinstance(member, np.ndarray):
            yield name.removesuffix(".npy"), member


def sound_hash(audio: Audio | None, files: Mapping[str, bytes]) -> int:
    """Of the decoded samples, so that the same sound in another format is found; else of files."""
    if audio is None:
        return xxhash.xxh3_64_intdigest(b"".join(files[name] for name in sorted(files)))
    return xxhash.xxh3_64_intdigest(audio.samples.data, seed=audio.sample_rate)


def words_hash(text: str, speaker: str) -> int:
    """Of letters, their marks and digits alone: case and punctuation make no difference."""
    letters = "".join(one for one in text.casefold() if unicodedata.category(one)[0] in "LMN")
    return xxhash.xxh3_64_intdigest(f"{speaker}\0{letters}".encode()) if letters else 0
