from __future__ import annotations

import copy
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pretrain.components import training
from pretrain.groups import OptimizerConfig
from pretrain.models.outline import outline
from pretrain.models.protocol import Guide
from pretrain.models.seed_vc.config import SeedVCConfig
from pretrain.models.seed_vc.flow import Draws, draw
from pretrain.models.seed_vc.model import SeedVC
from shards.collate import Batch

SMALL: dict[str, Any] = {
    "hidden_dim": 32,
    "head": 2,
    "n_layer": 4,
    "content_channels": 12,
    "content_dim": 16,
    "content_codebook": 8,
    "wavenet": {"layers": 2, "dropout": 0},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "wavenet": {},
    "mlp_f0": {"head_type": "mlp", "long_skip": False, "f0_condition": True},
    "tokens": {
        "head_type": "mlp",
        "long_skip": False,
        "time_as_token": True,
        "style_as_token": True,
    },
    "no_skips": {"uvit_skip": False, "loss": "l2", "time_sampling": "logit_normal"},
}
SAMPLES = {"a": 6000, "b": 9500, "c": 4100}
Clip = dict[str, torch.Tensor]


@pytest.fixture(params=VARIANTS)
def config(request: pytest.FixtureRequest) -> SeedVCConfig:
    return config_of(**VARIANTS[request.param])


def config_of(**changes: Any) -> SeedVCConfig:
    return SeedVCConfig.model_validate({**SMALL, **changes})


def clip(key: str) -> Clip:
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    samples = SAMPLES[key]
    made = {
        "audio": 0.1 * torch.randn(samples, generator=generator),
        "content": torch.randn(12, samples // 441, generator=generator),
        "style": torch.randn(192, generator=generator),
        "f0": 80 + 300 * torch.rand(samples // 220, generator=generator),
    }
    if key == "b":
        made["content_alt"] = torch.randn(12, samples // 441, generator=generator)
    return made


def batch_of(*keys: str, padding: int = 0) -> Batch:
    clips = [clip(key) for key in keys]
    names = sorted({name for made in clips for name in made})
    arrays, lengths = {}, {}
    for name in names:
        present = next(made[name] for made in clips if name in made)
        columns = [made.get(name, present[..., :0]) for made in clips]
        sizes = [column.shape[-1] for column in columns]
        longest = max(sizes) + (padding if name != "style" else 0)
        arrays[name] = torch.stack(
            [torch.nn.functional.pad(c, (0, longest - c.shape[-1])) for c in columns]
        )
        lengths[name] = torch.tensor(sizes)
    return Batch(0, 0, keys, np.arange(len(keys)), arrays, lengths)


def losses(model: SeedVC, batch: Batch) -> torch.Tensor:
    torch.manual_seed(3)
    return model(batch)["loss"].detach()


def test_a_clips_loss_does_not_depend_on_padding_or_company(config: SeedVCConfig) -> None:
    model = SeedVC(config)
    together = losses(model, batch_of("a", "b", "c"))
    apart = torch.cat([losses(model, batch_of(key)) for key in "abc"])
    padded = losses(model, batch_of("a", "b", "c", padding=3000))
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together, padded, rtol=1e-4, atol=1e-5)


def test_all_but_the_unused_parameters_get_a_gradient(config: SeedVCConfig) -> None:
    torch.manual_seed(3)
    model = SeedVC(config)
    model(batch_of("a", "b"))["loss"].sum().backward()
    idle = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert idle == set(model.unused())


def test_without_any_condition_the_same_parameters_get_a_gradient(config: SeedVCConfig) -> None:
    model = SeedVC(config.model_copy(update={"class_dropout": 0.999999}))
    model(batch_of("a", "b"))["loss"].sum().backward()
    idle = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert idle == set(model.unused())


def test_unused_parameters_are_in_no_group(config: SeedVCConfig) -> None:
    shape = outline(config)
    groups = training(shape, {}, OptimizerConfig(), int).groups(0)
    trained = {name for group in groups for name in group.parameters}
    assert set(shape.shapes) - trained == set(SeedVC(config).unused())


@pytest.mark.parametrize(
    ("per", "found"),
    [("sample", {frozenset({0.0, 1.0})}), ("batch", {frozenset({0.0}), frozenset({1.0})})],
)
def test_conditions_are_left_out_per_clip_or_per_batch(
    per: str, found: set[frozenset[float]]
) -> None:
    config = config_of(class_dropout=0.5, dropout_per=per)
    keys = [str(number) for number in range(40)]
    kept = set()
    for seed in range(20):
        torch.manual_seed(seed)
        draws = draw(config, keys, torch.full((40,), 20), 20)
        kept.add(frozenset(draws.keep.tolist()))
    assert kept == found


def test_a_copy_gives_the_same_losses(config: SeedVCConfig) -> None:
    model = SeedVC(config)
    batch = batch_of("a", "b")
    torch.testing.assert_close(losses(copy.deepcopy(model), batch), losses(model, batch))


def test_half_precision_stays_finite(config: SeedVCConfig) -> None:
    model, batch = SeedVC(config), batch_of("a", "b")
    with torch.autocast("cpu", torch.bfloat16):
        mixed = losses(model, batch)
    half = losses(model.bfloat16(), batch)
    assert mixed.isfinite().all()
    assert half.isfinite().all()


def test_a_model_is_no_distance_from_itself(config: SeedVCConfig) -> None:
    model, batch = SeedVC(config), batch_of("a", "b")
    torch.manual_seed(3)
    terms = model(batch, Guide(model.outputs(batch).detach(), weight=2.0, temperature=1.0))
    torch.testing.assert_close(terms["distill"], torch.zeros(2))
    torch.testing.assert_close(terms["loss"], terms["flow_matching"])


@pytest.mark.parametrize(
    ("member", "shape", "said"),
    [
        ("content.npy", (12, 30), None),
        ("content.npy", (30, 12), "30 x 12 where model.content_channels=12 x any length"),
        ("style.npy", (1, 192), "1 x 192 where model.style_dim=192 is"),
        ("f0.npy", (1, 30), "1 x 30 where any length is"),
    ],
)
def test_packed_features_of_another_shape_are_told(
    member: str, shape: tuple[int, ...], said: str | None
) -> None:
    (field,) = (f for f in config_of(f0_condition=True).fields() if f.member == member)
    mistake = field.mistaken(shape)
    assert (mistake is None) if said is None else (said in str(mistake))


def drawn(count: int, **changes: Any) -> Draws:
    torch.manual_seed(5)
    keys = [str(number) for number in range(count)]
    return draw(config_of(**changes), keys, torch.full((count,), 101), 1)


def test_what_is_drawn_is_spread_as_the_objective_says() -> None:
    draws = drawn(4000)
    has_prompt = draws.prompt_lengths > 0
    assert 0.87 < has_prompt.float().mean() < 0.92  # a hundredth of the prompts is of no frame
    lengths = draws.prompt_lengths[has_prompt].float()
    assert lengths.max() <= 99 and 48 < lengths.mean() < 53
    assert 0.88 < draws.keep.mean() < 0.92
    counts = torch.histc(draws.time, 10, 0, 1)
    assert counts.min() > 320 and counts.max() < 480
    normal = torch.logit(drawn(4000, time_sampling="logit_normal").time)
    assert abs(normal.mean()) < 0.1 and 0.95 < normal.std() < 1.05


def test_conditions_are_left_out_in_training_alone() -> None:
    model, batch = SeedVC(config_of(class_dropout=0.999999)), batch_of("a", "c")
    training = losses(model, batch)
    other = {**batch.arrays, "style": batch.arrays["style"] + 1}
    torch.testing.assert_close(losses(model, replace(batch, arrays=other)), training)
    model.eval()
    kept = losses(model, batch)
    assert not torch.isclose(kept, losses(model, replace(batch, arrays=other))).any()


def test_after_the_prompt_the_content_is_of_the_other_timbre_where_there_is_one() -> None:
    model, batch = SeedVC(config_of()), batch_of("a", "b")
    lengths, prompts = torch.tensor([20, 20]), torch.tensor([7, 7])
    own = model._regulated(batch, "content", lengths, 20)
    other = model._regulated(batch, "content_alt", lengths, 20)
    found = model._content(batch, lengths, prompts, 20)
    torch.testing.assert_close(found[0], own[0])
    torch.testing.assert_close(found[1], torch.cat([own[1, :7], other[1, 7:]]))
