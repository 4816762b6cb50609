"""A clip's members as the bytes of files, and what is told of them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import soundfile
import xxhash

from shards.audio import Audio
from shards.sources.source import Members


def npy(array: npt.NDArray[np.generic]) -> bytes:
    """The array as a .npy file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def flac(audio: Audio) -> bytes:
    """The audio as a FLAC file of 16 bits."""
    file = io.BytesIO()
    samples = np.clip(audio.samples, -1.0, 1.0)
    soundfile.write(file, samples, audio.sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


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
    samples = np.rint(audio.samples * 32767).astype(np.int32)
    return xxhash.xxh3_64_intdigest(samples.tobytes(), seed=audio.sample_rate)


def words_hash(text: str, speaker: str) -> int:
    """Of letters and digits alone: case and punctuation make no difference; 0 without any."""
    letters = "".join(character for character in text.casefold() if character.isalnum())
    return xxhash.xxh3_64_intdigest(f"{speaker}\0{letters}".encode()) if letters else 0
