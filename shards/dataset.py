"""A folder of shards as a run sees it: its options and the plan over it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from shards.errors import UserError
from shards.index import Index
from shards.plan import BatchConfig, Plan
from shards.section import Section


class DataConfig(Section):
    """``data``: where the shards are and how they are read."""

    path: Path = Field(description="folder of shards with its index.arrow")
    workers: int = Field(default=2, ge=0, le=64, description="loader processes per rank")
    prefetch: int = Field(default=4, ge=1, description="micro-batches each worker reads ahead")
    min_seconds: float = Field(default=0.0, ge=0, description="leave shorter clips out")
    max_seconds: float | None = Field(default=None, gt=0, description="leave longer clips out")


def _refuse_damage(shard: Path, end: int) -> None:
    if not shard.is_file():
        raise UserError(
            f"data.path: {shard} is in the index but not in the folder; bring it back or pack again"
        )
    if shard.stat().st_size < end:
        raise UserError(
            f"data.path: {shard} has {shard.stat().st_size} bytes but its clips end at byte {end}; "
            "bring it back or pack again"
        )


def open_plan(data: DataConfig, batch: BatchConfig, seed: int) -> Plan:
    """The plan over the shards in ``data.path``.

    UserError for a missing or empty folder, a shard that is gone or cut off, and a budget that is
    too small.
    """
    index = Index.open(data.path)
    for shard, end in index.shard_ends().items():
        _refuse_damage(data.path / shard, end)
    return Plan(
        index,
        seed=seed,
        batch=batch,
        min_seconds=data.min_seconds,
        max_seconds=data.max_seconds,
    )
