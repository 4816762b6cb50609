"""The size and the checksum of a file, read block by block."""

from __future__ import annotations

from pathlib import Path

import xxhash

BLOCK_BYTES = 4 << 20


def measured(path: Path) -> tuple[int, int]:
    """A file's size in bytes and the xxh3_64 of them; OSError if it cannot be read."""
    digest, size = xxhash.xxh3_64(), 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return size, digest.intdigest()
