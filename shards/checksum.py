"""The size and the checksum of a file, read block by block."""

from __future__ import annotations

from pathlib import Path

import xxhash

BLOCK_BYTES = 1 << 20


def measured(path: Path) -> tuple[int, int]:
    """A file's size in bytes and the xxh3_64 of them; OSError if it cannot be read."""
    digest, size = xxhash.xxh3_64(), 0
    # One block for all: memory that is new to the process costs more than reading does.
    block = memoryview(bytearray(BLOCK_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(block[:count])
            size += count
    return size, digest.intdigest()
