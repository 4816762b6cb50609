"""All figures of a folder of shards, in memory that does not grow with its clips."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shards.columns import Column
from shards.errors import UserError
from shards.index import SPLIT, Index
from shards.stats.balance import Balance, Split, Tally, balance, splits, tally
from shards.stats.distribution import Distribution, Figure, Parts, figure
from shards.stats.padding import Padding, padding
from shards.stats.rejects import rejects

SLICE = 1_000_000
"""Clips read together."""


@dataclass(frozen=True)
class Stats:
    """What ``segue shards stats`` tells; ``--json`` gives these fields by these names.

    - ``folder``: as it was named.
    - ``clips``, ``hours``, ``shards``; ``bytes``: of the shards on disk.
    - ``seconds``: how long clips are; exact, see `Distribution`.
    - ``padding``: length buckets and what padding to expect, see `Padding`.
    - ``speakers``, ``languages``, ``sources``: see `Balance`.
    - ``splits``: train and validation; none where the corpus is in one piece.
    - ``figures``: by name, what is known of the clips' quality; exact, see `Figure`.
    - ``lengths``: by name, the sum over all clips of each array's length: tokens, frames.
    - ``rejects``: by reason, most first; None where there is no rejects.parquet.
    """

    folder: str
    clips: int
    hours: float
    shards: int
    bytes: int
    seconds: Distribution
    padding: Padding
    speakers: Balance
    languages: Balance
    sources: Balance
    splits: tuple[Split, ...]
    figures: dict[str, Figure]
    lengths: dict[str, int]
    rejects: dict[str, int] | None

    def json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), allow_nan=False)


def measure(folder: Path) -> Stats:
    """Read the index in ``folder``.

    UserError as `Index.open`, for clips of unknown length and for unreadable rejects.
    """
    index = Index.open(folder)
    seconds = _parts(index, "seconds")
    known = figure(seconds)
    if known.unknown or known.known is None:
        raise UserError(
            f"DIR: {folder} has {known.unknown} clips without a length in its index; pack it again"
        )
    lasting = known.known
    speakers = _tally(index, "speaker")
    return Stats(
        folder=str(folder),
        clips=len(index),
        hours=float(speakers.seconds.sum()) / 3600,
        shards=index.shards.num_rows,
        bytes=int(np.sum(index.shards.column("bytes"))),
        seconds=lasting,
        padding=padding(seconds, lasting.minimum, lasting.maximum),
        speakers=balance(speakers),
        languages=balance(_tally(index, "language")),
        sources=balance(_tally(index, "source")),
        splits=_splits(index, speakers.names),
        figures={name: figure(_parts(index, name)) for name in index.figures},
        lengths={name: _sum(index, name) for name in index.about["lengths"]},
        rejects=rejects(folder),
    )


def _parts(index: Index, name: str) -> Parts:
    return partial(_slices, index, index.column(name))


def _slices(index: Index, column: Column) -> Iterator[npt.NDArray[Any]]:
    for start in range(0, len(index), SLICE):
        yield column.slice(start, min(start + SLICE, len(index)))


def _sum(index: Index, name: str) -> int:
    return sum(int(part.sum(dtype=np.int64)) for part in _slices(index, index.column(name)))


def _tally(index: Index, name: str) -> Tally:
    codes = _slices(index, index.codes(name))
    seconds = _slices(index, index.column("seconds"))
    return tally(index.names(name), zip(codes, seconds, strict=True))


def _splits(index: Index, speakers: pa.Array) -> tuple[Split, ...]:
    if SPLIT not in index.table.column_names:
        return ()
    pairs = zip(
        _slices(index, index.codes(SPLIT)), _slices(index, index.codes("speaker")), strict=True
    )
    return splits(_tally(index, SPLIT), pairs, speakers)
