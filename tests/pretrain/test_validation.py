"""Validation over ranks: the same bits however many there are."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_checkpoint import ThreadRanks, together

from pretrain.held_out import HeldOut, ValidationConfig, opened_set
from pretrain.held_out import held_out as held_out_sets
from pretrain.models.gpt_sovits_s1.config import S1Config
from pretrain.scores import ALL
from pretrain.validation import Alone, Results, validate
from shards.dataset import DataConfig, SourceConfig
from shards.errors import UserError
from shards.plan import BatchConfig

SMALL = S1Config(hidden_dim=16, head=2, n_layer=1)


class DeviceRanks(ThreadRanks):
    """Ranks that compute on the CPU."""

    device = torch.device("cpu")


def held_out(shards: Path) -> HeldOut:
    batch = BatchConfig(seconds=48, micro_seconds=8, buckets=4)
    place = (SourceConfig(path=str(shards)),)
    return opened_set("data", place, None, None, DataConfig(path=str(shards)), batch, 0)


def test_any_number_of_ranks_gives_the_same_bits(token_shards: Path) -> None:
    torch.manual_seed(0)
    model, held = SMALL.build().eval(), held_out(token_shards)

    def one(ranks: ThreadRanks) -> Results:
        own = DeviceRanks(ranks.rank, ranks._values, ranks._meeting, ranks._board)
        with torch.no_grad():
            return validate(model, (held,), SMALL, own)

    found = [together(world_size, one) for world_size in (1, 2, 3, 6)]
    first = found[0][0].scores
    assert first["data"][ALL].clips == 120
    assert sum(score.clips for group, score in first["data"].items() if "seconds" in group) == 120
    for of_ranks in found:
        assert all(one.scores == first for one in of_ranks)


def test_clips_that_cannot_be_read_are_told_and_none_at_all_is_an_error(
    token_shards: Path, tmp_path: Path
) -> None:
    shards = shutil.copytree(token_shards, tmp_path / "shards")
    first, *others = sorted(shards.glob("*.tar"))
    first.write_bytes(b"\xff" * first.stat().st_size)
    model, held = SMALL.build().eval(), held_out(shards)
    with torch.no_grad():
        found = validate(model, (held,), SMALL, Alone(torch.device("cpu")))
        assert 0 < len(found.failures) == 120 - found.scores["data"][ALL].clips
        for shard in others:
            shard.write_bytes(b"\xff" * shard.stat().st_size)
        with pytest.raises(UserError, match=r"cannot be read"):
            validate(model, (held,), SMALL, Alone(torch.device("cpu")))


def test_only_losses_on_the_same_clips_are_compared(token_shards: Path, tmp_path: Path) -> None:
    held, others = held_out(token_shards), held_out(token_shards)
    assert held.digest == others.digest
    assert held.digest != replace(held, steps=1).digest
    longer = DataConfig(path=str(token_shards), min_seconds=3)
    batch = BatchConfig(seconds=48, micro_seconds=8, buckets=4)
    other = opened_set("data", longer.places, None, None, longer, batch, 0)
    assert held.digest != other.digest
    again = opened_set(
        "data", longer.places, None, None, longer, BatchConfig(seconds=96, micro_seconds=8), 0
    )
    assert again.digest == other.digest


def test_settings_without_clips_to_validate_on_are_named(token_shards: Path) -> None:
    data, batch = DataConfig(path=str(token_shards)), BatchConfig(seconds=48, micro_seconds=8)
    with pytest.raises(UserError, match=r"validation\.every=10: the shards have no clips"):
        held_out_sets(ValidationConfig(every=10), data, batch, 0)
    one = SourceConfig(path=str(token_shards), name="validation")
    with pytest.raises(UserError, match=r"validation\.sources: validation is the name of two"):
        held_out_sets(ValidationConfig(sources=(one,)), data, batch, 0)
    old = SourceConfig(path=str(token_shards), name="old")
    (found,) = held_out_sets(ValidationConfig(every=10, sources=(old,)), data, batch, 0)
    assert found.name == "old"
