"""What a folder of shards holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.buckets import edges_of
from shards.index import Index

PERCENTILES = (0, 5, 25, 50, 75, 95, 100)


@dataclass(frozen=True)
class Stats:
    """Figures of an index. ``percentiles`` are of clip seconds; ``histogram`` counts clips
    between consecutive ``edges`` (bucket edges for 16 buckets)."""

    clips: int
    hours: float
    shards: int
    speakers: int
    languages: Counter[str]
    sources: Counter[str]
    percentiles: dict[int, float]
    lengths: dict[str, int]
    edges: tuple[float, ...]
    histogram: tuple[int, ...]


def stats(folder: Path) -> Stats:
    """Read the index in ``folder``; UserError as `Index.open`."""
    index = Index.open(folder)
    seconds = index.seconds.astype(np.float64)
    edges = edges_of(seconds, 16)
    counts = np.bincount(np.searchsorted(edges, seconds), minlength=len(edges))
    column = index.table.column
    return Stats(
        clips=len(index),
        hours=float(seconds.sum()) / 3600,
        shards=len(column("shard").unique()),
        speakers=len(column("speaker").unique()),
        languages=Counter(column("language").to_pylist()),
        sources=Counter(column("source").to_pylist()),
        percentiles={p: float(np.percentile(seconds, p)) for p in PERCENTILES},
        lengths={name: int(index.lengths(name).sum()) for name in index.about["lengths"]},
        edges=tuple(edges.tolist()),
        histogram=tuple(counts.tolist()),
    )
