"""The index beside the shards: one row per clip, memory-mapped, enough to plan without audio."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from shards.atomic import replacing
from shards.errors import UserError

FILE_NAME = "index.arrow"
FORMAT = 1

MEMBER = pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])
FACTS = {
    "key": pa.string(),
    "shard": pa.string(),
    "offset": pa.int64(),
    "size": pa.int64(),
    "members": pa.list_(MEMBER),
    "seconds": pa.float32(),
    "speaker": pa.string(),
    "language": pa.string(),
    "source": pa.string(),
    "checksum": pa.string(),
}


@dataclass(frozen=True)
class Member:
    """One file of a clip inside a shard: its extension and where its bytes lie."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class ClipRow:
    """What the index says of one clip.

    ``lengths`` counts each array member along its last axis (``phonemes.npy`` -> ``phonemes``);
    ``largest`` holds the largest value of each integer member, ``checksum`` stands for all arrays.
    """

    key: str
    shard: str
    offset: int
    size: int
    members: tuple[Member, ...]
    seconds: float
    speaker: str
    language: str
    source: str
    lengths: Mapping[str, int]
    largest: Mapping[str, int]
    checksum: str


def write_index(folder: Path, rows: Iterable[ClipRow], about: Mapping[str, Any]) -> None:
    """Write ``folder/index.arrow`` atomically as one uncompressed Arrow IPC record batch.

    ``about`` (the feature extractors' facts) goes into the schema's metadata with a digest of
    everything that a plan depends on, so that opening an index of any size stays cheap.
    """
    clips = list(rows)
    length_names = sorted({name for clip in clips for name in clip.lengths})
    columns = {name: pa.array(_column(clips, name), type=kind) for name, kind in FACTS.items()}
    for name in length_names:
        columns[name] = pa.array([clip.lengths.get(name, 0) for clip in clips], type=pa.int32())
    metadata = {
        "format": FORMAT,
        "lengths": length_names,
        "largest": _largest(clips),
        "digest": _digest(clips),
        **about,
    }
    table = pa.table(columns).replace_schema_metadata({"segue": json.dumps(metadata)})
    with (
        replacing(folder / FILE_NAME) as aside,
        pa.OSFile(str(aside), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table, max_chunksize=max(1, len(clips)))


def _column(clips: list[ClipRow], name: str) -> list[Any]:
    if name == "members":
        return [[vars(member) for member in clip.members] for clip in clips]
    return [getattr(clip, name) for clip in clips]


def _largest(clips: list[ClipRow]) -> dict[str, int]:
    largest: dict[str, int] = {}
    for clip in clips:
        for name, value in clip.largest.items():
            largest[name] = max(value, largest.get(name, value))
    return largest


def _digest(clips: list[ClipRow]) -> str:
    digest = xxhash.xxh3_128()
    for clip in clips:
        facts = (clip.shard, clip.key, f"{clip.seconds:.4f}", clip.checksum)
        digest.update("\0".join(facts).encode() + b"\n")
    return digest.hexdigest()


class Index:
    """A memory-mapped index. Row numbers are positions in the file.

    Example: ``Index.open(Path("shards")).seconds.sum() / 3600`` is the corpus's hours.
    """

    def __init__(self, folder: Path, table: pa.Table) -> None:
        self.folder = folder
        self.table = table
        self.about: dict[str, Any] = json.loads(table.schema.metadata[b"segue"])

    @classmethod
    def open(cls, folder: Path) -> Index:
        """Map ``folder/index.arrow``; UserError where it is missing, unreadable or empty."""
        path = folder / FILE_NAME
        if not folder.is_dir():
            state = "a file" if folder.exists() else "not there"
            raise UserError(
                f"data.path: {folder} is {state}; pack a folder with 'segue shards pack SOURCE "
                f"{folder}' or name another"
            )
        if not path.is_file():
            raise UserError(
                f"data.path: {folder} holds no {FILE_NAME}; finish 'segue shards pack SOURCE "
                f"{folder}' or name a folder that has one"
            )
        table = _read(path)
        if table.num_rows == 0:
            raise UserError(
                f"data.path: {path} lists no clips; see {folder / 'rejects.parquet'} for why "
                "and pack again"
            )
        return cls(folder, table)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def digest(self) -> str:
        """A fingerprint of every clip's identity, order, length and content."""
        return str(self.about["digest"])

    @property
    def seconds(self) -> npt.NDArray[np.float32]:
        """Each clip's duration in seconds, float32 [clips]."""
        return self._numbers("seconds")

    def lengths(self, name: str) -> npt.NDArray[np.int32]:
        """Each clip's length of the member ``name``.npy in its own units, int32 [clips]."""
        return self._numbers(name)

    def _numbers(self, name: str) -> npt.NDArray[Any]:
        # One chunk by construction, so this is a view of the mapped file and not a copy.
        numbers: npt.NDArray[Any] = self.table.column(name).chunk(0).to_numpy(zero_copy_only=True)
        return numbers

    def shard_ends(self) -> dict[str, int]:
        """For each shard the byte at which its last clip ends."""
        ends = pa.table(
            {
                "shard": self.table.column("shard"),
                "end": pc.add(self.table.column("offset"), self.table.column("size")),
            }
        )
        last = ends.group_by("shard").aggregate([("end", "max")])
        return dict(zip(last["shard"].to_pylist(), last["end_max"].to_pylist(), strict=True))

    def key(self, row: int) -> str:
        """The clip's key in its shard."""
        return str(self.table.column("key")[row].as_py())

    def shard(self, row: int) -> str:
        """The file name of the clip's shard."""
        return str(self.table.column("shard")[row].as_py())

    def members(self, row: int) -> dict[str, Member]:
        """The clip's members by extension."""
        listed = self.table.column("members")[row].as_py()
        return {member["name"]: Member(**member) for member in listed}


def _read(path: Path) -> pa.Table:
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        format_of_file = json.loads(table.schema.metadata[b"segue"])["format"]
    except (pa.ArrowException, OSError, TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"data.path: {path} is no index of ours ({error}); pack the folder again"
        ) from error
    if format_of_file != FORMAT:
        raise UserError(
            f"data.path: {path} has format {format_of_file}, this version reads {FORMAT}; "
            "pack the folder again"
        )
    return table
