"""A chunk of recordings, prepared and put aside until its block is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from shards.atomic import replacing
from shards.checksum import measured
from shards.pack.layout import Chunk, Layout
from shards.pack.prepare import Prepared, prepare
from shards.pack.recipe import Recipe
from shards.sources.source import Reject


@dataclass(frozen=True)
class Kept:
    """A prepared clip whose members lie in a chunk's file: (offset, size) by extension."""

    key: str
    name: str
    file: str
    seconds: float
    speaker: str
    language: str
    places: Mapping[str, tuple[int, int]]
    lengths: Mapping[str, int]
    largest: Mapping[str, int]
    figures: Mapping[str, float]
    sound: int
    words: int


@dataclass(frozen=True)
class ChunkDone:
    """What a chunk gave."""

    clips: tuple[Kept, ...]
    rejects: tuple[Reject, ...]

    @property
    def seconds(self) -> float:
        """Audio that got in."""
        return sum(clip.seconds for clip in self.clips)


def prepare_chunk(recipe: Recipe, layout: Layout, chunk: Chunk) -> ChunkDone:
    """Prepare the recordings of a chunk into its file; the list of what lies there comes last.

    A checksum tells a file that a loss of power has torn: cheaper than to wait for the disk.
    """
    clips: list[Kept] = []
    rejects: list[Reject] = []
    digest = xxhash.xxh3_64()
    with replacing(data_path(recipe, chunk), durable=False) as aside, aside.open("wb") as file:
        for found in _found(recipe, layout, chunk):
            if isinstance(found, Reject):
                rejects.append(found)
                continue
            places = {}
            for name, data in found.members.items():
                places[name] = (file.tell(), len(data))
                file.write(data)
                digest.update(data)
            clips.append(_kept(found, places))
    done = ChunkDone(tuple(clips), tuple(rejects))
    listed = {
        "fingerprint": recipe.fingerprint,
        "xxh3": digest.hexdigest(),
        "clips": [vars(clip) for clip in done.clips],
        "rejects": [vars(reject) for reject in done.rejects],
    }
    with replacing(_list_path(recipe, chunk), durable=False) as aside:
        aside.write_text(json.dumps(listed), encoding="utf-8")
    return done


def _found(recipe: Recipe, layout: Layout, chunk: Chunk) -> Iterator[Prepared | Reject]:
    for row in layout.rows(chunk):
        listed = layout.listing.row(row)
        if isinstance(listed, Reject):
            yield listed
        else:
            yield from prepare(recipe, listed)


def _kept(found: Prepared, places: dict[str, tuple[int, int]]) -> Kept:
    facts = {name: getattr(found, name) for name in Kept.__dataclass_fields__ if name != "places"}
    return Kept(places=places, **facts)


def done_chunk(recipe: Recipe, chunk: Chunk) -> ChunkDone | None:
    """What an earlier start has already prepared, or None."""
    path, data = _list_path(recipe, chunk), data_path(recipe, chunk)
    if not (path.is_file() and data.is_file()):
        return None
    try:
        saved = _saved(recipe, chunk)
    except ValueError:
        return None  # a machine that lost power left half of it
    if saved["fingerprint"] != recipe.fingerprint or saved["xxh3"] != f"{measured(data)[1]:016x}":
        return None
    return _listed(saved)


def listed_chunk(recipe: Recipe, chunk: Chunk) -> ChunkDone:
    """What lies in the file of a chunk that is there."""
    return _listed(_saved(recipe, chunk))


def _saved(recipe: Recipe, chunk: Chunk) -> dict[str, Any]:
    saved: dict[str, Any] = json.loads(_list_path(recipe, chunk).read_text(encoding="utf-8"))
    return saved


def _listed(saved: Mapping[str, Any]) -> ChunkDone:
    clips = tuple(Kept(**clip) for clip in saved["clips"])
    return ChunkDone(clips, tuple(Reject(**reject) for reject in saved["rejects"]))


def data_path(recipe: Recipe, chunk: Chunk) -> Path:
    """The file with the members of a chunk's clips, one after another."""
    return recipe.work / f"chunk-{chunk.name}.bin"


def _list_path(recipe: Recipe, chunk: Chunk) -> Path:
    return recipe.work / f"chunk-{chunk.name}.json"


def forget_chunk(recipe: Recipe, chunk: Chunk) -> None:
    """Remove a chunk that has become shards."""
    _list_path(recipe, chunk).unlink(missing_ok=True)
    data_path(recipe, chunk).unlink(missing_ok=True)
