"""Previews: which clips, what of s1 is seen, and what a board shows of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from test_metrics import events_of, opened, terminal
from test_s1 import SMALL, batch_of

from pretrain.models.gpt_sovits_s1.config import S1Config
from pretrain.models.gpt_sovits_s1.layers import SelfAttention
from pretrain.models.gpt_sovits_s1.model import S1
from pretrain.models.picture import coloured
from pretrain.models.protocol import Preview, Sound
from pretrain.preview import clips_to_preview, middling
from shards.dataset import DataConfig, open_plan
from shards.plan import BatchConfig, Plan


def plan_of(shards: Path, seed: int = 0) -> Plan:
    batch = BatchConfig(seconds=48, micro_seconds=12, buckets=4)
    return open_plan(DataConfig(path=str(shards)), batch, seed)


def test_the_clips_are_of_medium_length_and_the_same_for_every_seed(token_shards: Path) -> None:
    plan = plan_of(token_shards)
    rows = middling(plan, 3)
    assert len(set(rows.tolist())) == 3
    assert rows.tolist() == middling(plan_of(token_shards, seed=5), 3).tolist()
    assert rows.tolist() == middling(plan, 7).tolist()[:3]
    seconds = plan.corpus.seconds(torch.arange(len(plan.corpus)).numpy())
    shorter = [(seconds < own).mean() for own in plan.corpus.seconds(rows)]
    assert all(0.2 < share < 0.8 for share in shorter)
    everything = middling(plan, 1000)
    assert sorted(everything.tolist()) == list(range(len(plan.corpus)))


def test_a_clip_that_cannot_be_read_is_told_and_left_out(
    token_shards: Path, tmp_path: Path
) -> None:
    shards = shutil.copytree(token_shards, tmp_path / "shards")
    plan = plan_of(shards)
    row = int(middling(plan, 3)[1])
    index, said = plan.corpus.sources[0].index, list[str]()
    offset, size = (int(index.table.column(name)[row].as_py()) for name in ("offset", "size"))
    with (shards / index.table.column("shard")[row].as_py()).open("r+b") as shard:
        shard.seek(offset)
        shard.write(b"\xff" * size)
    data = DataConfig(path=str(shards), workers=0)
    found = clips_to_preview(plan, S1Config(), data, 3, said.append)
    assert len(found) == 2 and all(len(batch.keys) == 1 for batch in found)
    assert len(said) == 1 and plan.corpus.key(row) in said[0]


def test_the_weights_of_attention_are_what_it_mixes_values_by() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(16, 1, 0.0)
    x, allowed = torch.randn(2, 9, 16), torch.ones(9, 9).tril().bool()[None, None]
    mixed = attention.weights(x, allowed) @ attention._projected(x)[2][:, 0]
    torch.testing.assert_close(attention(x, allowed), attention.out_proj(mixed))


def test_s1_shows_where_tokens_look_among_a_clips_own_phonemes() -> None:
    torch.manual_seed(0)
    model = S1(S1Config(**SMALL)).eval()
    clips = [
        (torch.randint(0, 40, (phonemes,)), torch.randint(0, 49, (tokens,)), None)
        for phonemes, tokens in ((9, 20), (3, 41))
    ]
    with torch.no_grad():
        together = model.previews(batch_of(clips))
        alone = [model.previews(batch_of([clip]))[0] for clip in clips]
        # A key that all tokens turn to: the fourth phoneme lights up in every column.
        attention = model.h.layers[0].self_attn
        model.h.layers = model.h.layers[:1]
        attention.in_proj_weight.zero_()
        (even,) = model.previews(batch_of(clips[:1]))
    for one, other, (phonemes, tokens, _) in zip(together, alone, clips, strict=True):
        picture = one.pictures["alignment"]
        assert picture.shape == (4 * len(phonemes), 4 * len(tokens), 3)
        assert (picture.int() - other.pictures["alignment"].int()).abs().max() <= 2
    assert len(even.pictures["alignment"].flatten(0, 1).unique(dim=0)) == 1
    assert not model.h.layers[0].self_attn._forward_pre_hooks


def test_colours_go_from_dark_to_bright_and_survive_what_is_no_number() -> None:
    values = torch.tensor([[-torch.inf, 0.0, 0.5, 1.0, 9.0, torch.nan]])
    colours = coloured(values, 0.0, 1.0)[0].tolist()
    assert colours[0] == colours[1] == colours[5] == [68, 1, 84]
    assert colours[2] == [33, 145, 140]
    assert colours[3] == colours[4] == [253, 231, 37]


def test_pictures_and_sounds_are_on_the_board_and_a_bad_one_is_told(tmp_path: Path) -> None:
    said = list[str]()
    picture = torch.zeros(6, 8, 3, dtype=torch.uint8)
    good = Preview("a", {"mel": picture}, {"sampled": Sound(torch.zeros(400), 16_000)})
    bad = Preview("b", {"mel": torch.zeros(6)})
    for _ in range(2):  # started again before it had saved anything
        with opened(tmp_path, 0, terminal(said.append)) as metrics:
            metrics.previewed(0, [bad, good])
    events = events_of(tmp_path)
    (image,) = events.Images("preview/a/mel")
    assert (image.step, image.width, image.height) == (0, 8, 6)
    (audio,) = events.Audio("preview/a/sampled")
    assert (audio.sample_rate, audio.length_frames) == (16_000, 400)
    assert len(said) == 2 and all("the preview of b was not drawn" in line for line in said)


def test_a_full_disk_leaves_pictures_out_and_does_not_stop_the_run(
    disk_of: Callable[[str], Path],
) -> None:
    disk = disk_of("64k")
    noise = torch.randint(0, 256, (200, 200, 3), dtype=torch.uint8)
    with opened(disk / "run", 0, terminal()) as metrics:
        for step in range(8):
            metrics.previewed(step, [Preview("a", {"mel": noise})])
