"""The stream over real servers gives what it gives from the folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from store_servers import http_server

from shards.collate import Batch
from shards.dataset import DataConfig, open_plan
from shards.errors import UserError
from shards.fields import Field
from shards.plan import BatchConfig
from shards.stores import CacheConfig
from shards.stream import stream

pytest.importorskip("aiohttp", reason="needs aiohttp: pip install aiohttp")
FIELDS = (Field("phonemes.npy", 0, "int64"), Field("semantic.npy", 1024, "int64"))


@pytest.fixture(scope="module")
def server(token_shards: Path) -> Iterator[str]:
    with http_server(token_shards) as url:
        yield url


def read(config: DataConfig) -> list[Batch]:
    plan = open_plan(config, BatchConfig(seconds=48, micro_seconds=12), seed=0)
    steps = range(plan.step_at(1))
    return list(stream(plan, FIELDS, steps, rank=0, world_size=1, config=config))


@pytest.mark.parametrize(
    ("mode", "gigabytes", "workers", "threads"),
    [("plain", 0.0, 0, 0), ("drop", 0.0, 1, 0), ("plain", 0.001, 2, 0), ("drop", 0.001, 0, 2)],
)
def test_batches_over_http_are_those_of_the_folder(
    server: str,
    token_shards: Path,
    tmp_path: Path,
    mode: str,
    gigabytes: float,
    workers: int,
    threads: int,
) -> None:
    cache = CacheConfig(
        folder=tmp_path / "cache", gigabytes=gigabytes, backoff_seconds=0.01, retries=12
    )
    far = read(DataConfig(path=f"{server}/{mode}/x", cache=cache, workers=workers, threads=threads))
    near = read(DataConfig(path=str(token_shards), workers=0))
    assert [batch.keys for batch in far] == [batch.keys for batch in near]
    for ours, theirs in zip(far, near, strict=True):
        assert torch.equal(ours.arrays["semantic"], theirs.arrays["semantic"])
    copies = [path for path in (tmp_path / "cache").rglob("*") if "shard-" in path.name]
    assert bool(copies) == (gigabytes > 0)


def test_a_server_without_an_index_is_one_sentence(server: str, tmp_path: Path) -> None:
    cache = CacheConfig(folder=tmp_path, backoff_seconds=0.01, retries=1)
    with pytest.raises(
        UserError, match=r"data\.path=http.*/plain/x/deeper: the index cannot be had"
    ):
        open_plan(
            DataConfig(path=f"{server}/plain/x/deeper", cache=cache),
            BatchConfig(seconds=48, micro_seconds=12),
            seed=0,
        )
