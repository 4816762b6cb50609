"""Folders of shards as a run sees them: the options, the corpus and the plan over it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from shards.corpus import Corpus, Source
from shards.curriculum import StageConfig
from shards.errors import UserError
from shards.filter import Filter
from shards.index import Index
from shards.plan import BatchConfig, Plan
from shards.section import Section
from shards.selection import Selection, Split
from shards.stores import CacheConfig, Store, is_url, open_store


class SourceConfig(Section):
    """One of ``data.sources``."""

    path: str = Field(description="folder or URL of shards with their index.arrow")
    name: str | None = Field(default=None, description="by default the folder's name")
    repeat: float = Field(
        default=1.0, ge=0.001, le=1000, description="how often an epoch holds each clip: 0.05, 2.5"
    )

    @property
    def called(self) -> str:
        """Its name, or its folder's."""
        return self.name or self.path.rstrip("/").rpartition("/")[2]


class DataConfig(Section):
    """``data``: where the shards are and how they are read."""

    path: str | None = Field(
        default=None, description="folder or URL (s3://, http://) of shards with their index.arrow"
    )
    sources: tuple[SourceConfig, ...] = Field(
        default=(), description="instead of path: several folders, each with its repeat"
    )
    workers: int = Field(default=2, ge=0, le=64, description="loader processes per rank")
    threads: int = Field(
        default=0,
        ge=0,
        le=64,
        description="threads that read and decode in each loader process; with workers=0 in the "
        "rank itself, which spares audio the way between processes",
    )
    prefetch: int = Field(default=4, ge=1, description="micro-batches each worker reads ahead")
    min_seconds: float = Field(default=0.0, ge=0, description="leave shorter clips out")
    max_seconds: float | None = Field(default=None, gt=0, description="leave longer clips out")
    filter: str | None = Field(
        default=None,
        description="take only clips of which this is true: 'snr_db > 20 and seconds < 30'; "
        "columns of the index, + - * /, < <= > >= == !=, in, and, or, not",
    )
    split: Split = Field(
        default="train", description="the clips that packing did not set apart, those, or all"
    )
    curriculum: tuple[StageConfig, ...] = Field(
        default=(), description="stages by clip length, each from a step or an epoch on"
    )
    on_error: Literal["stop", "skip"] = Field(
        default="stop", description="what a clip that cannot be read does to the run"
    )
    on_change: Literal["refuse", "restart_epoch"] = Field(
        default="refuse", description="what other data or plan settings do to a run being resumed"
    )
    cache: CacheConfig = CacheConfig()

    @model_validator(mode="after")
    def _one_way(self) -> DataConfig:
        if (self.path is None) == (not self.sources):
            raise ValueError("give either path or sources; one of them, not both")
        return self

    @property
    def places(self) -> tuple[SourceConfig, ...]:
        """The sources; a lone path is one."""
        return self.sources or (SourceConfig(path=str(self.path)),)


def open_corpus(data: DataConfig) -> Corpus:
    """The indexes of all sources; UserError for a missing, unreadable or empty one."""
    sources = [
        Source(
            place.called,
            _open_index(place.path, data.cache),
            Fraction(str(place.repeat)).limit_denominator(1000),
        )
        for place in data.places
    ]
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"data.sources: two are called {name}; give each a name of its own")
    return Corpus(sources)


def _open_index(location: str, cache: CacheConfig) -> Index:
    if not is_url(location):
        return Index.open(Path(location))
    from shards.stores.remote_index import fetch_index

    return Index.open(fetch_index(location, cache), location)


def open_stores(corpus: Corpus, cache: CacheConfig) -> list[Store]:
    """Where each source's bytes come from."""
    return [
        open_store(
            source.index.location, source.index.shard_facts if cache.gigabytes else {}, cache
        )
        for source in corpus.sources
    ]


def open_plan(data: DataConfig, batch: BatchConfig, seed: int) -> Plan:
    """The plan over ``data``'s shards.

    UserError for a missing or empty folder, a filter that is not understood or asks for a column
    that is not there, limits without clips and a budget that is too small.
    """
    chosen = Filter.parse(data.filter) if data.filter is not None else None
    corpus = open_corpus(data)
    return Plan(
        corpus,
        seed=seed,
        batch=batch,
        curriculum=data.curriculum,
        min_seconds=data.min_seconds,
        max_seconds=data.max_seconds,
        selection=Selection(corpus, chosen, data.split),
    )


def refuse_damaged_shards(corpus: Corpus) -> None:
    """UserError for a shard in a local folder that is gone or cut off.

    It looks at every shard once, so one process of a run asks, not all.
    """
    for source in corpus.sources:
        if not is_url(source.index.location):
            for name, size in _listed(source.index):
                _refuse_damage(Path(source.index.location) / name, size)


def _listed(index: Index) -> Iterator[tuple[str, int]]:
    table = index.shards
    yield from zip(table["name"].to_pylist(), table["bytes"].to_pylist(), strict=True)


def _refuse_damage(shard: Path, size: int) -> None:
    if not shard.is_file():
        raise UserError(
            f"data.path: {shard} is in the index but not in the folder; bring it back or pack again"
        )
    if shard.stat().st_size != size:
        raise UserError(
            f"data.path: {shard} has {shard.stat().st_size} bytes and not the {size} that were "
            "packed; bring it back or pack again"
        )
