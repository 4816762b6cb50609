"""The end of a long file, without reading the rest."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError

_Record = TypeVar("_Record", bound=BaseModel)
BLOCK = 64 * 1024


def last_lines(path: Path, count: int) -> list[bytes]:
    """The last ``count`` lines without their ends, fewer if there are fewer; none of no file."""
    try:
        with path.open("rb") as file:
            file.seek(start_of_last_lines(file, count))
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def start_of_last_lines(file: BinaryIO, count: int) -> int:
    """The byte at which the last ``count`` lines begin; what follows the last line end is one."""
    end = file.seek(0, os.SEEK_END)
    if count == 0 or end == 0:
        return end
    before = end - 1  # the end of the last line separates it from nothing
    while before > 0:
        start = max(0, before - BLOCK)
        file.seek(start)
        block = file.read(before - start)
        while (found := block.rfind(b"\n")) >= 0:
            count -= 1
            if count == 0:
                return start + found + 1
            block = block[:found]
        before = start
    return 0


def records(kind: type[_Record], lines: Iterable[bytes]) -> Iterator[_Record]:
    """The lines that are whole records of this kind in JSON; others, as a kill leaves, are not."""
    for line in lines:
        try:
            yield kind.model_validate_json(line)
        except ValidationError:
            continue
