from __future__ import annotations

from pathlib import Path

import pytest
import torch
import webdataset

from shards.dataset import DataConfig, open_plan
from shards.errors import UserError
from shards.fields import Field
from shards.index import Index
from shards.plan import BatchConfig, Plan
from shards.stream import ShardReader, stream

FIELDS = (
    Field("phonemes.npy", pad=0, dtype="int64"),
    Field("semantic.npy", pad=1024, dtype="int64"),
    Field("bert.npy", pad=0, dtype="float32", required=False),
)


def plan_over(folder: Path) -> Plan:
    return open_plan(DataConfig(path=folder), BatchConfig(seconds=48, micro_seconds=12), seed=0)


def keys(
    plan: Plan, steps: range, rank: int, world_size: int, workers: int
) -> list[tuple[object, ...]]:
    config = DataConfig(path=plan.index.folder, workers=workers)
    batches = stream(plan, FIELDS, steps, rank=rank, world_size=world_size, config=config)
    return [(batch.step, batch.index, batch.keys) for batch in batches]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_stream_follows_the_plan_for_any_number_of_workers(
    token_shards: Path, workers: int
) -> None:
    plan = plan_over(token_shards)
    expected = [
        (micro.step, micro.index, tuple(plan.index.key(int(row)) for row in micro.rows))
        for step in plan.steps(2, 6)
        for micro in step.micro_batches
    ]
    assert keys(plan, range(2, 6), 0, 1, workers) == expected


def test_ranks_together_read_what_one_rank_reads(token_shards: Path) -> None:
    plan = plan_over(token_shards)
    alone = keys(plan, range(4), 0, 1, 0)
    shared = [entry for rank in range(4) for entry in keys(plan, range(4), rank, 4, 1)]
    assert sorted(shared, key=lambda e: e[:2]) == alone


def test_a_batch_is_padded_on_the_right_with_the_fields_value(token_shards: Path) -> None:
    plan = plan_over(token_shards)
    config = DataConfig(path=token_shards, workers=0)
    batch = next(stream(plan, FIELDS, range(1), rank=0, world_size=1, config=config))
    semantic, lengths = batch.arrays["semantic"], batch.lengths["semantic"]
    assert semantic.dtype == torch.int64
    assert semantic.shape == (len(batch.keys), int(lengths.max()))
    beyond = torch.arange(semantic.shape[1])[None] >= lengths[:, None]
    assert torch.all((semantic == 1024) == beyond)
    assert "bert" not in batch.arrays


def test_users_can_put_webdataset_stages_into_the_stream(token_shards: Path) -> None:
    plan = plan_over(token_shards)
    config = DataConfig(path=token_shards, workers=0)

    def shift(sample: dict[str, object]) -> dict[str, object]:
        return {**sample, "phonemes.npy": sample["phonemes.npy"] * 0 + 7}  # type: ignore[operator]

    batch = next(
        stream(
            plan,
            FIELDS,
            range(1),
            rank=0,
            world_size=1,
            config=config,
            stages=[webdataset.map(shift)],
        )
    )
    assert set(batch.arrays["phonemes"].unique().tolist()) <= {0, 7}


def test_a_missing_folder_an_empty_index_and_a_lost_shard_are_one_sentence(
    token_shards: Path, tmp_path: Path
) -> None:
    batch = BatchConfig(seconds=48, micro_seconds=12)
    with pytest.raises(UserError, match="gone is not there; pack a folder"):
        open_plan(DataConfig(path=tmp_path / "gone"), batch, 0)
    with pytest.raises(UserError, match=r"holds no index\.arrow"):
        open_plan(DataConfig(path=tmp_path), batch, 0)
    (tmp_path / "index.arrow").write_bytes(b"rubbish")
    with pytest.raises(UserError, match="is no index of ours"):
        open_plan(DataConfig(path=tmp_path), batch, 0)
    (tmp_path / "index.arrow").write_bytes((token_shards / "index.arrow").read_bytes())
    with pytest.raises(UserError, match=r"shard-000000\.tar is in the index but not in the folder"):
        open_plan(DataConfig(path=tmp_path), batch, 0)


def test_a_shard_that_was_cut_off_is_refused_before_training(
    token_shards: Path, tmp_path: Path
) -> None:
    for path in filter(Path.is_file, token_shards.iterdir()):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shard = tmp_path / "shard-000001.tar"
    shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"shard-000001\.tar has 5000 bytes but its clips end at"):
        plan_over(tmp_path)


def test_an_index_without_clips_is_refused(tmp_path: Path) -> None:
    from shards.index import write_index

    write_index(tmp_path, [], {})
    with pytest.raises(UserError, match="lists no clips"):
        Index.open(tmp_path)


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"12345")
    with pytest.raises(EOFError, match=r"a\.tar ends at byte 5, 9 were indexed"):
        ShardReader(tmp_path).read("a.tar", 3, 6)
