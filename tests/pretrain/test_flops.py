"""The models' own count of their FLOPs, against torch's of what they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pretrain.components import ComponentConfig, training
from pretrain.flops import StepFlops
from pretrain.groups import OptimizerConfig
from pretrain.models.gpt_sovits_s1.config import S1Config
from pretrain.models.outline import outline
from pretrain.models.protocol import Family
from pretrain.models.seed_vc.config import SeedVCConfig
from shards.collate import Batch

CLIPS = 2


class Index:
    """Clips that are all alike, by the names of their lengths."""

    def __init__(self, **lengths: float) -> None:
        self._lengths = lengths

    def gather(self, name: str, rows: np.ndarray) -> np.ndarray:
        return np.full(len(rows), float(self._lengths[name]))

    def seconds(self, rows: np.ndarray) -> np.ndarray:
        return self.gather("seconds", rows)

    def has(self, name: str) -> bool:
        return name in self._lengths


def batch_of(arrays: Mapping[str, torch.Tensor]) -> Batch:
    lengths = {name: torch.full((CLIPS,), array.shape[-1]) for name, array in arrays.items()}
    return Batch(0, 0, ("a", "b"), np.arange(CLIPS), arrays, lengths)


def s1_case() -> tuple[Family, Batch, Index]:
    config = S1Config(hidden_dim=128, head=4, n_layer=4, vocab_size=300, phoneme_vocab_size=40)
    arrays = {
        "phonemes": torch.randint(0, 40, (CLIPS, 30)),
        "semantic": torch.randint(0, 299, (CLIPS, 90)),
        "bert": torch.randn(CLIPS, 1024, 30),
    }
    return config, batch_of(arrays), Index(phonemes=30, semantic=90, bert=30)


def seed_vc_case(**options: Any) -> tuple[Family, Batch, Index]:
    config = SeedVCConfig(
        hidden_dim=128, head=2, n_layer=5, content_channels=60, content_dim=64, **options
    )
    arrays = {
        "audio": torch.randn(CLIPS, 22_050),
        "content": torch.randn(CLIPS, 60, 50),
        "content_alt": torch.randn(CLIPS, 60, 50),
        "style": torch.randn(CLIPS, 192),
    }
    return config, batch_of(arrays), Index(seconds=1.0, content=50, content_alt=50)


CASES = {
    "s1": s1_case,
    "seed_vc wavenet": seed_vc_case,
    "seed_vc tokens": lambda: seed_vc_case(
        head_type="mlp", time_as_token=True, style_as_token=True, long_skip=False
    ),
}


@pytest.mark.parametrize(
    ("case", "frozen"),
    [("s1", ""), ("seed_vc wavenet", ""), ("seed_vc tokens", ""), ("s1", "decoder")],
)
def test_a_models_count_is_within_a_few_percent_of_what_torch_counts(
    case: str, frozen: str
) -> None:
    family, batch, index = CASES[case]()
    sections = {frozen: ComponentConfig.model_validate({"freeze": True})} if frozen else {}
    plan = training(outline(family), sections, OptimizerConfig(), lambda _: 0)
    model = family.build()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(plan.treatments[name].trains_at(0))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(batch, None)["loss"].sum().backward()
    told = StepFlops(family, plan).of(index, np.arange(CLIPS), 0)  # type: ignore[arg-type]
    assert told == pytest.approx(counter.get_total_flops(), rel=0.05 if frozen else 0.02)
