"""Manifests with one JSON object a line, plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from shards.errors import UserError
from shards.json_facts import UnusableError, parse_object
from shards.sources.source import Reject, read_lines

SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
LOOKED_AT = 1 << 22
"""Characters of the first line that recognition reads."""
_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)


@dataclass(frozen=True)
class Line:
    """A line of a manifest: its number, counted from 1, and its object."""

    number: int
    fields: dict[str, Any]


def first_object(path: Path) -> dict[str, Any]:
    """The object in the first line that is not empty; {} for anything but such a manifest."""
    try:
        if not (path.name.lower().endswith(SUFFIXES) and path.is_file()):
            return {}
        with _opened(path) as file:
            line = file.readline(LOOKED_AT)
            while line and not line.strip():
                line = file.readline(LOOKED_AT)
        return parse_object(line)
    except (OSError, ValueError, *_DAMAGED):
        return {}


def json_lines(path: Path) -> Iterator[Line | Reject]:
    """Every line that is not empty; UserError where the file is not UTF-8 or damaged gzip."""
    for number, text in enumerate(_lines(path), 1):
        if not text.strip():
            continue
        try:
            yield Line(number, parse_object(text))
        except UnusableError as error:
            yield Reject(f"line {number}", error.reason, error.figure, str(path))


def _lines(path: Path) -> Iterator[str]:
    if path.suffix.lower() != ".gz":
        yield from read_lines(path)
        return
    try:
        with _opened(path) as file:
            for line in file:
                yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(f"SOURCE: {path} is not UTF-8 ({error}); convert it") from error
    except _DAMAGED as error:
        raise UserError(
            f"SOURCE: {path} is a damaged gzip file ({error}); fetch or write it again"
        ) from error


def _opened(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="\n")
    return path.open(encoding="utf-8-sig", newline="\n")
