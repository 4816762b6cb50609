from __future__ import annotations

import numpy as np
import pytest
import torch

from pretrain.models.gpt_sovits_s1.config import S1Config
from pretrain.models.gpt_sovits_s1.model import IGNORE, S1
from shards.collate import Batch

SMALL = {"hidden_dim": 32, "head": 4, "n_layer": 2, "vocab_size": 50, "phoneme_vocab_size": 40}


def batch_of(clips: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]) -> Batch:
    pad = torch.nn.utils.rnn.pad_sequence
    arrays = {
        "phonemes": pad([clip[0] for clip in clips], batch_first=True),
        "semantic": pad([clip[1] for clip in clips], batch_first=True, padding_value=49),
    }
    if any(clip[2] is not None for clip in clips):
        zeros = [torch.zeros(1024, 0) if clip[2] is None else clip[2] for clip in clips]
        arrays["bert"] = pad([z.T for z in zeros], batch_first=True).transpose(1, 2)
    return Batch(
        step=0,
        index=0,
        keys=tuple(str(n) for n in range(len(clips))),
        rows=np.arange(len(clips)),
        arrays=arrays,
        lengths={
            "phonemes": torch.tensor([len(clip[0]) for clip in clips]),
            "semantic": torch.tensor([len(clip[1]) for clip in clips]),
        },
    )


@pytest.fixture
def clips() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]:
    torch.manual_seed(0)
    shapes = [(9, 20), (3, 41), (17, 5), (1, 1)]
    return [
        (
            torch.randint(0, 40, (phonemes,)),
            torch.randint(0, 49, (tokens,)),
            torch.randn(1024, phonemes) if phonemes > 5 else None,
        )
        for phonemes, tokens in shapes
    ]


@pytest.mark.parametrize("alignment", ["first_token", "after_first"])
def test_a_clips_loss_does_not_depend_on_what_it_is_batched_with(
    clips: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]], alignment: str
) -> None:
    model = S1(S1Config.model_validate({**SMALL, "alignment": alignment})).eval()
    alone = [model(batch_of([clip])) for clip in clips]
    together = model(batch_of(clips))
    for name in ("loss", "top3"):
        apart = torch.cat([terms[name] for terms in alone])
        torch.testing.assert_close(together[name], apart, rtol=1e-5, atol=1e-5)


def test_padding_values_reach_neither_loss_nor_gradient(
    clips: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]],
) -> None:
    model = S1(S1Config(**SMALL)).eval()
    batch = batch_of(clips)
    before = model(batch)["loss"]
    for name in ("phonemes", "semantic"):
        array, lengths = batch.arrays[name], batch.lengths[name]
        beyond = torch.arange(array.shape[1])[None] >= lengths[:, None]
        array[beyond] = 7
    torch.testing.assert_close(model(batch)["loss"], before)


def test_targets_end_with_eos_and_ignore_padding() -> None:
    model = S1(S1Config(**SMALL))
    semantic = torch.tensor([[5, 6, 7], [8, 49, 49]])
    targets = model.targets(semantic, torch.tensor([3, 1]))
    assert targets.tolist() == [[5, 6, 7, 49], [8, 49, IGNORE, IGNORE]]


def test_the_older_alignment_leaves_the_first_token_out() -> None:
    model = S1(S1Config(**SMALL, alignment="after_first"))
    targets = model.targets(torch.tensor([[5, 6, 7]]), torch.tensor([3]))
    assert targets.tolist() == [[IGNORE, 6, 7, 49]]


def test_every_parameter_gets_a_gradient_with_and_without_bert(
    clips: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]],
) -> None:
    for chosen in (clips, clips[1:2]):
        model = S1(S1Config(**SMALL))
        model(batch_of(chosen))["loss"].sum().backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_every_parameter_belongs_to_exactly_one_component() -> None:
    components = S1.components()
    for name, _ in S1(S1Config(**SMALL)).named_parameters():
        owners = [c for c, prefixes in components.items() if name.startswith(prefixes)]
        assert len(owners) == 1, name


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of head=5"):
        S1Config(hidden_dim=32, head=5)
