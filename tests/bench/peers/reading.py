"""The clips of a folder of tar shards, in order, and what the whole corpus adds up to."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

TOKENS = ("phonemes", "semantic")
KINDS = ("tokens", "audio")
COUNTED = {"tokens": "semantic", "audio": "audio"}  # the field whose padding is reported


@dataclass(frozen=True)
class Clip:
    """One clip's members, still encoded, under their extensions."""

    key: str
    members: dict[str, bytes]

    @property
    def seconds(self) -> float:
        return float(json.loads(self.members["json"])["seconds"])

    @property
    def flac(self) -> bytes:
        return self.members["flac"]

    def array(self, field: str) -> np.ndarray[Any, Any]:
        """The decoded token array of that name."""
        array: np.ndarray[Any, Any] = np.load(io.BytesIO(self.members[f"{field}.npy"]))
        return array

    def raw(self, kind: str) -> dict[str, bytes]:
        """What a format of plain bytes stores: each array's values, or the FLAC file."""
        if kind == "audio":
            return {"audio": self.flac}
        return {field: self.array(field).tobytes() for field in TOKENS}


@dataclass(frozen=True)
class Corpus:
    """Totals of a corpus; elements are semantic tokens or samples."""

    clips: int
    seconds: float
    elements: int
    shards: int
    dtypes: dict[str, str]  # of each token array

    @classmethod
    def load(cls, folder: Path) -> Corpus:
        return cls(**json.loads((folder / "corpus.json").read_text(encoding="utf-8")))

    def save(self, folder: Path) -> None:
        (folder / "corpus.json").write_text(json.dumps(vars(self)), encoding="utf-8")


def tars(folder: Path) -> list[Path]:
    """The folder's shards in order."""
    return sorted(folder.glob("*.tar"))


def read_tar(path: Path) -> Iterator[Clip]:
    """The clips of one shard: neighbouring members that share a key."""
    key, members = "", dict[str, bytes]()
    with tarfile.open(path) as archive:
        for info in archive:
            stream = archive.extractfile(info)
            if stream is None:
                continue
            parent, slash, name = info.name.rpartition("/")
            stem, _, extension = name.partition(".")
            if parent + slash + stem != key and members:
                yield Clip(key, members)
                members = {}
            key = parent + slash + stem
            members[extension] = stream.read()
    if members:
        yield Clip(key, members)


def read_clips(folder: Path) -> Iterator[Clip]:
    """Every clip of every shard, in order."""
    for path in tars(folder):
        yield from read_tar(path)


def survey(folder: Path, kind: str) -> Corpus:
    """Read the whole corpus once and add it up."""
    clips = elements = 0
    seconds = 0.0
    dtypes: dict[str, set[str]] = {field: set() for field in TOKENS if kind == "tokens"}
    for clip in read_clips(folder):
        clips += 1
        seconds += clip.seconds
        if kind == "audio":
            elements += soundfile.info(io.BytesIO(clip.flac)).frames
            continue
        elements += len(clip.array("semantic"))
        for field, seen in dtypes.items():
            seen.add(clip.array(field).dtype.str)
    one = {field: dtype for field, (dtype,) in dtypes.items()}  # fails on a mixture
    return Corpus(clips, seconds, elements, len(tars(folder)), one)
