"""Re-reading shards against the checksums in their index."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import xxhash

from shards.checksum import measured
from shards.index import Index, ShardFacts


@dataclass(frozen=True)
class Damage:
    """What is wrong with a shard, or with one of its clips (``key``, "" for the shard)."""

    shard: str
    key: str
    what: str


@dataclass(frozen=True)
class Checked:
    """A shard that was read, and what is wrong with it."""

    shard: ShardFacts
    damage: tuple[Damage, ...]


def verify(folder: Path, workers: int) -> Iterator[Checked]:
    """Every shard of the index in ``folder``, read whole, in the index's order.

    UserError where there is no index.
    """
    index = Index.open(folder)
    count = len(index.shard_starts) - 1
    # Reading and hashing leave the interpreter's lock to others.
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(partial(_check, index), range(count))


def _check(index: Index, number: int) -> Checked:
    facts = ShardFacts(**index.shards.slice(number, 1).to_pylist()[0])
    try:
        return Checked(facts, tuple(_damage(index, number, facts)))
    except OSError as error:
        what = f"it cannot be read: {error.strerror or error}"
        return Checked(facts, (Damage(facts.name, "", what),))


def _damage(index: Index, number: int, facts: ShardFacts) -> Iterator[Damage]:
    path = index.folder / facts.name
    if not path.is_file():
        yield Damage(facts.name, "", "it is not there")
        return
    if path.stat().st_size == facts.bytes and measured(path)[1] == facts.checksum:
        return
    yield _shard_damage(path, facts)
    yield from _damaged_clips(index, number, path)


def _shard_damage(path: Path, facts: ShardFacts) -> Damage:
    size = path.stat().st_size
    if size != facts.bytes:
        return Damage(facts.name, "", f"it has {size} bytes and not {facts.bytes}")
    return Damage(facts.name, "", "its checksum is another")


def _damaged_clips(index: Index, number: int, path: Path) -> Iterator[Damage]:
    members = index.members
    first, last = index.shard_starts[number : number + 2].tolist()
    starts = members.starts.slice(first, last + 1).tolist()
    with path.open("rb") as file:
        for row in range(first, last):
            begin, end = starts[row - first], starts[row - first + 1]
            names = [members.names[n] for n in members.name.slice(begin, end).tolist()]
            places = zip(
                names,
                members.offset.slice(begin, end).tolist(),
                members.size.slice(begin, end).tolist(),
                members.checksum.slice(begin, end).tolist(),
                strict=True,
            )
            broken = [
                name
                for name, offset, size, checksum in places
                if xxhash.xxh3_64_intdigest(os.pread(file.fileno(), size, offset)) != checksum
            ]
            if broken:
                yield Damage(index.shard(row), index.key(row), f"damaged: {', '.join(broken)}")
