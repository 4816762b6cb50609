"""A block of prepared clips into shards: one length bucket a shard, shuffled, speakers spread."""

from __future__ import annotations

import mmap
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shards.atomic import replacing
from shards.buckets import edges_of
from shards.index import ClipRow, Member, ShardFacts
from shards.index_writer import largest_values, rows_table
from shards.pack.chunk import Kept, data_path, forget_chunk, listed_chunk
from shards.pack.layout import Chunk
from shards.pack.receipt import FILE, NAME, SOUND, WORDS, BlockDone
from shards.pack.recipe import Recipe
from shards.sources.source import Reject
from shards.tar_index import tar_places

BUCKETS = 8


@dataclass(frozen=True)
class Placed:
    """A prepared clip and the file that its members lie in."""

    clip: Kept
    data: memoryview

    def member(self, name: str) -> memoryview:
        """The bytes of one member."""
        offset, size = self.clip.places[name]
        return self.data[offset : offset + size]


def write_block(recipe: Recipe, block: int, chunks: Sequence[Chunk]) -> None:
    """Write the shards of a block whose chunks are prepared, and the draft of its receipt.

    The shards depend on the clips and their order, not on where chunks were cut. Waiting for
    the disk is left to `confirm_block`, so that this process can go on.
    """
    clips: list[Placed] = []
    rejects: list[Reject] = []
    for chunk in chunks:
        done = listed_chunk(recipe, chunk)
        data = _mapped(data_path(recipe, chunk))
        clips += [Placed(clip, data) for clip in done.clips]
        rejects += done.rejects
    shards: list[ShardFacts] = []
    rows: list[ClipRow] = []
    ordered: list[Placed] = []
    for number, chosen in enumerate(lay_out(clips, recipe.config.shard_hours, recipe.seed(block))):
        name = f"shard-{block:06d}-{number:02d}.tar"
        facts, placed = _write_shard(recipe, name, chosen)
        shards.append(facts)
        rows += placed
        ordered += chosen
    table = _with_names(rows_table(rows), [place.clip for place in ordered])
    receipt = BlockDone(recipe.work, block, recipe.fingerprint)
    receipt.draft(table, shards, rejects, largest_values(rows))


def confirm_block(recipe: Recipe, block: int, chunks: Sequence[Chunk]) -> None:
    """Wait until the shards of a written block are on the disk; then it is finished."""
    BlockDone(recipe.work, block, recipe.fingerprint).confirm(recipe.out)
    for chunk in chunks:
        forget_chunk(recipe, chunk)


def _mapped(path: Path) -> memoryview:
    if path.stat().st_size == 0:
        return memoryview(b"")
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _with_names(table: pa.Table, clips: Sequence[Kept]) -> pa.Table:
    more = {
        SOUND: pa.array([clip.sound for clip in clips], type=pa.uint64()),
        WORDS: pa.array([clip.words for clip in clips], type=pa.uint64()),
        NAME: pa.array([clip.name for clip in clips], type=pa.string()),
        FILE: pa.array([clip.file for clip in clips], type=pa.string()),
    }
    for name, column in more.items():
        table = table.append_column(name, column)
    return table


def lay_out(clips: Sequence[Placed], shard_hours: float, seed: str) -> Iterator[list[Placed]]:
    """Shards of about ``shard_hours`` of audio each, every clip in exactly one."""
    if not clips:
        return
    seconds = np.array([place.clip.seconds for place in clips], dtype=np.float32)
    bucket_of = np.searchsorted(edges_of(seconds, BUCKETS), seconds)
    for bucket in range(int(bucket_of.max()) + 1):
        members = [clips[int(row)] for row in np.flatnonzero(bucket_of == bucket)]
        order = spread_speakers(members, random.Random(f"{seed}/{bucket}"))
        yield from _cut(order, shard_hours * 3600)


def spread_speakers(clips: Sequence[Placed], chance: random.Random) -> list[Placed]:
    """A shuffle in which every speaker's clips lie evenly over the whole length."""
    by_speaker: dict[str, list[Placed]] = defaultdict(list)
    for place in clips:
        by_speaker[place.clip.speaker].append(place)
    placed: list[tuple[float, Placed]] = []
    for own in by_speaker.values():
        chance.shuffle(own)
        placed += [((n + chance.random()) / len(own), place) for n, place in enumerate(own)]
    return [place for _, place in sorted(placed, key=lambda pair: pair[0])]


def _cut(order: Sequence[Placed], limit: float) -> Iterator[list[Placed]]:
    """Runs of about ``limit`` seconds, all of about one length, so that none is a scrap."""
    total = sum(place.clip.seconds for place in order)
    parts = max(1, round(total / limit))
    shard: list[Placed] = []
    held, done = 0.0, 1
    for place in order:
        if shard and held >= done * total / parts:
            yield shard
            shard, done = [], done + 1
        shard.append(place)
        held += place.clip.seconds
    if shard:
        yield shard


def _write_shard(
    recipe: Recipe, name: str, clips: Sequence[Placed]
) -> tuple[ShardFacts, list[ClipRow]]:
    import webdataset  # brings torch, and takes longer than all else that a worker begins with

    with replacing(recipe.out / name, durable=False) as aside:
        with (
            aside.open("wb") as stream,
            webdataset.TarWriter(
                stream, encoder=False, user="segue", group="segue", mtime=0
            ) as tar,
        ):
            for place in clips:
                tar.write(_sample(place))
        places, checksum = tar_places(aside)
        facts = ShardFacts(name, len(clips), aside.stat().st_size, checksum)
    source = recipe.corpus
    return facts, [_row(name, place.clip, places[place.clip.key], source) for place in clips]


def _sample(place: Placed) -> dict[str, Any]:
    members = {name: bytes(place.member(name)) for name in place.clip.places}
    return {"__key__": place.clip.key, **members}


def _row(shard: str, clip: Kept, members: Sequence[Member], source: str) -> ClipRow:
    first, last = members[0], members[-1]
    return ClipRow(
        key=clip.key,
        shard=shard,
        offset=first.offset,
        size=last.offset + last.size - first.offset,
        members=tuple(members),
        seconds=clip.seconds,
        speaker=clip.speaker,
        language=clip.language,
        source=source,
        lengths=clip.lengths,
        largest=clip.largest,
        figures=clip.figures,
    )
