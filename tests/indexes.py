"""Indexes without shards, for what the plan decides."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa

from shards.corpus import Corpus, Source
from shards.index import Index, ShardFacts
from shards.index_writer import write_columns


def index_of(
    seconds: Sequence[float] | np.ndarray,
    per_shard: int = 50,
    seed: int = 0,
    figures: Mapping[str, Sequence[float] | np.ndarray] = {},
    names: Mapping[str, Sequence[str]] = {},
) -> Index:
    """Clips c0, c1, ... of these lengths, so many to a shard.

    ``figures`` are further columns of numbers, ``names`` of strings.
    """
    lengths = np.asarray(seconds, dtype=np.float32)
    starts = range(0, len(lengths), per_shard)
    shards = [
        ShardFacts(f"{n:05d}.tar", len(lengths[s : s + per_shard]), 0, 0)
        for n, s in enumerate(starts)
    ]
    shard = np.repeat(np.arange(len(shards), dtype=np.int32), [facts.rows for facts in shards])
    columns = {
        "key": pa.array([f"c{n}" for n in range(len(lengths))], pa.large_string()),
        "shard": pa.DictionaryArray.from_arrays(shard, [facts.name for facts in shards]),
        "seconds": lengths,
        "semantic": (25 * lengths).astype(np.int32),
        "phonemes": np.random.default_rng(seed).integers(1, 200, len(lengths)).astype(np.int32),
        **{name: np.asarray(values, dtype=np.float32) for name, values in figures.items()},
        **{
            name: pa.array(values, pa.string()).dictionary_encode()
            for name, values in names.items()
        },
    }
    about = {
        "lengths": ["semantic", "phonemes"],
        "figures": list(figures),
        "largest": {},
        "digest": f"{seed} {lengths.sum()}",
    }
    with tempfile.TemporaryDirectory() as folder:
        write_columns(Path(folder), pa.table(columns), shards, about)
        return Index.open(Path(folder))  # mapped: it outlives its folder


def corpus_of(*sources: tuple[Index, float]) -> Corpus:
    """Sources named a, b, ... with their repeats."""
    return Corpus(
        [
            Source(chr(ord("a") + n), index, Fraction(str(repeat)))
            for n, (index, repeat) in enumerate(sources)
        ]
    )


def lognormal(clips: int, seed: int = 0) -> np.ndarray:
    """Lengths of a speech corpus: median 6 s, sigma 0.7, 1 to 54 s."""
    drawn = np.random.default_rng(seed).lognormal(np.log(6), 0.7, clips).clip(1, 54)
    return drawn.astype(np.float32)
