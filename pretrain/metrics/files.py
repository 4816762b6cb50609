"""Files of one JSON object a line: written whole or not at all, cut back where a run goes on."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Mapping, Sequence
from io import RawIOBase
from pathlib import Path
from typing import Any

from shards.atomic import replacing

_DISK_FULL = {errno.EDQUOT, errno.ENOSPC}


def finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """The values, None for those that JSON has no number for."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def append_to(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Add records to a file, as far as there is room."""
    with path.open("ab", buffering=0) as file:
        append(file, b"".join(json_line(record) for record in records))


def json_line(record: Mapping[str, Any]) -> bytes:
    """One line of such a file."""
    return (json.dumps(record) + "\n").encode()


def append(file: RawIOBase, content: bytes) -> bool:
    """Whether there was room for all of it; else nothing of it is there."""
    size = file.seek(0, os.SEEK_END)
    try:
        if file.write(content) == len(content):
            return True
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
    file.truncate(size)
    return False


def read_log(path: Path) -> list[dict[str, float]]:
    """The whole records of a log; what a kill left half-written is left out."""
    if not path.exists():
        return []
    records = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return records


def cut_back(path: Path, step: int) -> None:
    """Drop records after ``step``, atomically."""
    if not path.exists():
        return
    kept = [record for record in read_log(path) if record["step"] <= step]
    with replacing(path) as aside:
        aside.write_bytes(b"".join(json_line(record) for record in kept))
