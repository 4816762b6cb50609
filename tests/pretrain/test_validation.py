"""Validation over ranks: the same bits however many there are."""

from __future__ import annotations

from pathlib import Path

import torch
from test_checkpoint import ThreadRanks, together

from pretrain.models.gpt_sovits_s1.config import S1Config
from pretrain.scores import ALL
from pretrain.validation import HeldOut, Scores, opened_set, validate
from shards.dataset import DataConfig, SourceConfig
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

    def one(ranks: ThreadRanks) -> Scores:
        own = DeviceRanks(ranks.rank, ranks._values, ranks._meeting, ranks._board)
        with torch.no_grad():
            return validate(model, (held,), SMALL, own)

    found = [together(world_size, one) for world_size in (1, 2, 3, 6)]
    first = found[0][0]
    assert first["data"][ALL].clips == 120
    assert sum(score.clips for group, score in first["data"].items() if "seconds" in group) == 120
    for scores in found:
        assert all(of_rank == first for of_rank in scores)
