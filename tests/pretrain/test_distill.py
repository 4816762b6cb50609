"""Distillation: what it measures, and that a run can be guided back to a model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pretrain.distill import DistillConfig, Teacher, divergence
from pretrain.models.gpt_sovits_s1.config import S1Config
from pretrain.models.gpt_sovits_s1.model import S1
from pretrain.models.protocol import Guide
from shards.collate import Batch

SMALL = S1Config(
    vocab_size=30, phoneme_vocab_size=20, hidden_dim=16, head=2, n_layer=2, dropout=0.0
)


def batch_of(step: int = 0, seed: int = 0) -> Batch:
    """Two clips, one shorter than the other."""
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        step=step,
        index=0,
        keys=("a", "b"),
        rows=np.arange(2),
        arrays={
            "phonemes": torch.randint(0, 20, (2, 6), generator=generator),
            "semantic": torch.randint(0, 29, (2, 9), generator=generator),
        },
        lengths={"phonemes": torch.tensor([6, 4]), "semantic": torch.tensor([9, 5])},
    )


def teacher(config: DistillConfig, seed: int = 1) -> Teacher:
    torch.manual_seed(seed)
    return Teacher.of(S1(SMALL), config, torch.device("cpu"), torch.float32)


@given(st.floats(0.5, 8.0), st.integers(0, 1000))
def test_the_divergence_is_that_of_the_softened_distributions(
    temperature: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    ours, theirs = (torch.randn(4, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    found = divergence(ours, Guide(theirs, 1.0, temperature))
    p, q = (torch.softmax(logits / temperature, -1) for logits in (theirs, ours))
    wanted = (p * (p.log() - q.log())).sum(-1) * temperature**2
    torch.testing.assert_close(found, wanted.float(), rtol=1e-3, atol=1e-5)
    assert divergence(theirs, Guide(theirs, 1.0, temperature)).abs().max() < 1e-4


def test_the_loss_is_cross_entropy_and_the_weighted_divergence_of_real_targets() -> None:
    torch.manual_seed(0)
    model, batch = S1(SMALL).eval(), batch_of()
    plain = model(batch)
    guide = teacher(DistillConfig(weight=0.3, temperature=2.0)).guide(batch)
    guided = model(batch, guide)
    torch.testing.assert_close(guided["cross_entropy"], plain["loss"])
    torch.testing.assert_close(guided["loss"], plain["loss"] + 0.3 * guided["distill"])
    assert guided["distill"].shape == (2,) and bool((guided["distill"] > 0).all())
    batch.arrays["semantic"][1, 5:] = 3  # padding
    again = model(batch, teacher(DistillConfig(weight=0.3, temperature=2.0)).guide(batch))
    torch.testing.assert_close(again["distill"], guided["distill"])


def test_guidance_ends_where_it_is_to_end_and_never_reaches_the_teacher() -> None:
    guiding = teacher(DistillConfig(weight=1.0, until_step=5))
    guide = guiding.guide(batch_of(step=4))
    assert guide is not None and not guide.outputs.requires_grad
    assert guiding.guide(batch_of(step=5)) is None
    assert teacher(DistillConfig()).guide(batch_of()) is None


def test_a_guided_model_comes_to_agree_with_its_teacher() -> None:
    torch.manual_seed(0)
    model, guiding = S1(SMALL), teacher(DistillConfig(weight=10.0))
    adam = torch.optim.AdamW(model.parameters(), lr=1e-2)
    seen = []
    for step in range(60):
        batch = batch_of(step, seed=step % 4)
        terms = model(batch, guiding.guide(batch))
        seen.append(float(terms["distill"].detach().sum()))
        adam.zero_grad()
        terms["loss"].sum().backward()
        adam.step()
    assert sum(seen[-4:]) < 0.4 * sum(seen[:4])


def test_smoothing_is_for_training_alone() -> None:
    torch.manual_seed(0)
    plain = S1(SMALL)
    smooth = S1(SMALL.model_copy(update={"label_smoothing": 0.2}))
    smooth.load_state_dict(plain.state_dict())
    batch = batch_of()
    torch.testing.assert_close(plain.eval()(batch)["loss"], smooth.eval()(batch)["loss"])
    assert not torch.allclose(plain.train()(batch)["loss"], smooth.train()(batch)["loss"])
    with pytest.raises(ValueError, match="label_smoothing"):
        S1Config(label_smoothing=1.0)
