"""Where things lie in a shard."""

from __future__ import annotations

import mmap
import tarfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import xxhash

from shards.index import Member


def member_places(path: Path) -> tuple[Mapping[str, Sequence[Member]], int]:
    """The members of each key of a tar, in order, and the xxh3 of the whole file."""
    members: dict[str, list[Member]] = defaultdict(list)
    with (
        path.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as tar,
        memoryview(tar) as data,
        tarfile.open(fileobj=opened) as file,
    ):
        for info in file:
            folder, _, base = info.name.rpartition("/")
            stem, _, extension = base.partition(".")
            key = f"{folder}/{stem}" if folder else stem
            checksum = xxhash.xxh3_64_intdigest(data[info.offset_data :][: info.size])
            members[key].append(Member(extension, info.offset_data, info.size, checksum))
        return members, xxhash.xxh3_64_intdigest(data)
