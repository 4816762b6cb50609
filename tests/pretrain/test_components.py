from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.component_table import describe
from pretrain.components import ComponentConfig, Training, layer_exponents, training
from pretrain.config import load
from pretrain.groups import OptimizerConfig
from pretrain.models.gpt_sovits_s1.config import S1Config
from pretrain.models.outline import Outline, outline
from pretrain.preflight import check
from shards.errors import UserError

QUICKSTART = Path(__file__).parents[2] / "configs/quickstart.yaml"
MODEL = outline(S1Config(hidden_dim=32, head=2, n_layer=3))
BIASES = {name for name, shape in MODEL.shapes.items() if len(shape) <= 1}
OPTIMIZER = OptimizerConfig(weight_decay=0.1)
KEYS = (*MODEL.components, "*", "*.norm*", "h.layers.[12].*", "ar_text*", "h.layers.0.linear1.bias")


def of(components: dict[str, Any]) -> Training:
    checked = {key: ComponentConfig.model_validate(value) for key, value in components.items()}
    return training(MODEL, checked, OPTIMIZER, lambda epochs: round(100 * epochs))


def factors(found: Training, step: int = 0) -> dict[str, float]:
    return {name: group.lr_scale for group in found.groups(step) for name in group.parameters}


FREEZES = st.one_of(
    st.booleans(),
    st.fixed_dictionaries({"until_step": st.integers(1, 40)}),
    st.fixed_dictionaries({"until_epoch": st.floats(0.01, 0.4)}),
)
ENTRIES = st.dictionaries(
    st.sampled_from(KEYS),
    st.fixed_dictionaries(
        {"freeze": FREEZES, "lr_scale": st.floats(0.01, 3)},
        optional={"weight_decay": st.floats(0, 1)},
    ),
)


@given(ENTRIES, st.integers(0, 50))
def test_a_parameter_is_in_one_group_or_frozen_and_biases_never_decay(
    entries: dict[str, Any], step: int
) -> None:
    try:
        found = of(entries)
    except UserError as error:
        assert "every parameter is frozen at step 0" in str(error)
        return
    groups = found.groups(step)
    grouped = [name for group in groups for name in group.parameters]
    assert len(grouped) == len(set(grouped))
    assert len({group.name for group in groups}) == len(groups)
    assert all(group.parameters for group in groups)
    for name, treatment in found.treatments.items():
        assert (name in grouped) == treatment.trains_at(step)
    for group in groups:
        assert not BIASES.intersection(group.parameters) or group.weight_decay == 0


@given(ENTRIES, st.integers(0, 30), st.integers(0, 50))
def test_what_trains_changes_at_the_told_steps_and_nowhere_else(
    entries: dict[str, Any], start: int, target: int
) -> None:
    try:
        found = of(entries)
    except UserError:
        return
    changed = [
        step for step in range(start + 1, target) if found.groups(step) != found.groups(step - 1)
    ]
    assert list(found.changes(start, target)) == changed


def test_without_components_all_train_at_one_rate() -> None:
    assert set(factors(of({})).values()) == {1.0}
    assert [group.name for group in of({}).groups(0)] == ["decay", "no_decay"]
    assert of({}).changes(0, 1000) == ()


def test_of_the_entries_that_fit_a_parameter_the_last_one_decides() -> None:
    found = factors(of({"decoder": {"lr_scale": 0.5}, "*.norm1.*": {"weight_decay": 0.3}}))
    assert found["h.layers.0.linear1.weight"] == 0.5
    assert found["h.layers.0.norm1.weight"] == 1.0
    other = factors(of({"*.norm1.*": {"lr_scale": 2}, "decoder": {"lr_scale": 0.5}}))
    assert other["h.layers.0.norm1.weight"] == 0.5


def test_a_weight_decay_of_its_own_is_for_matrices_only() -> None:
    groups = {group.name: group for group in of({"head": {"weight_decay": 0.7}}).groups(0)}
    assert groups["head/decay"].weight_decay == 0.7
    assert groups["decay"].weight_decay == 0.1
    biases = {group.weight_decay for group in of({"*": {"weight_decay": 0.7}}).groups(0)}
    assert biases == {0.7, 0.0}


@given(st.floats(0.1, 0.99), st.floats(0.1, 2), st.integers(1, 6))
def test_layer_decay_is_a_power_of_the_blocks_above(
    decay: float, scale: float, blocks: int
) -> None:
    model = outline(S1Config(hidden_dim=32, head=2, n_layer=blocks))
    entry = ComponentConfig(layer_decay=decay, lr_scale=scale)
    found = factors(training(model, {"*": entry}, OPTIMIZER, int))
    for block in range(blocks):
        expected = scale * decay ** (blocks - 1 - block)
        assert found[f"h.layers.{block}.norm1.weight"] == pytest.approx(expected)
    assert found["bert_proj.weight"] == pytest.approx(scale * decay**blocks)
    assert found["ar_predict_layer.weight"] == pytest.approx(scale)


def test_blocks_are_numbered_by_the_first_part_that_is_a_number() -> None:
    names = ["stem", "up.0.conv.7.weight", "up.1.conv.7.weight", "out2.weight"]
    assert layer_exponents(names) == dict(zip(names, (2, 1, 0, 0), strict=True))
    assert layer_exponents(["stem", "conv1.weight"]) is None


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"decodr": {}}, r"components\.decodr: no component .* write decoder\b"),
        ({"h.layer.0.*": {}}, r"components\.h\.layer\.0\.\*: .* h\.layers\.0\."),
        ({"zzz": {}}, r"components\.zzz: .* bert_proj, .* or head$"),
        ({"head": {"layer_decay": 0.9}}, r"components\.head\.layer_decay=0\.9: .*head\.lr_scale"),
        ({"*": {"freeze": True}}, r"every parameter is frozen at step 0"),
        ({"*": {"freeze": {"until_epoch": 0.1}}}, r"every parameter is frozen at step 0"),
    ],
)
def test_an_entry_that_makes_no_sense_is_one_sentence(
    entries: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        of(entries)
    assert "\n" not in str(raised.value)


def test_the_table_tells_components_apart_from_what_patterns_take_out_of_them() -> None:
    found = of(
        {
            "decoder": {"freeze": {"until_step": 6}, "layer_decay": 0.5},
            "head": {"freeze": True},
            "*.norm*": {"lr_scale": 2},
        }
    )
    before, after = (describe(found, step).splitlines() for step in (5, 6))
    sizes = MODEL.sizes()
    norms = sum(size for name, size in sizes.items() if ".norm" in name)
    decoder = sum(size for name, size in sizes.items() if name.startswith("h.")) - norms
    rows = {line.split("  ")[0]: line.split() for line in before}
    assert before[0].split() == ["component", "parameters", "training", "rate", "factor", "state"]
    assert rows["decoder"] == f"decoder {decoder:,} 0 0.25 to 1 frozen until step 6".split()
    assert rows["decoder: *.norm*"] == f"decoder: *.norm* {norms:,} {norms:,} 2 training".split()
    assert rows["head"] == f"head {sizes['ar_predict_layer.weight']:,} 0 1 frozen".split()
    assert f"decoder {decoder:,} {decoder:,} 0.25 to 1 training".split() in map(str.split, after)


def test_a_parameter_of_no_component_can_be_named_by_a_pattern() -> None:
    model = Outline({"a.weight": (2, 2), "b.weight": (2, 2)}, {"a": ("a.",)})
    frozen = ComponentConfig.model_validate({"freeze": True})
    found = training(model, {"b.*": frozen}, OPTIMIZER, int)
    assert factors(found) == {"a.weight": 1.0}
    assert "no component: b.*" in describe(found, 0)


def test_the_table_tells_what_no_loss_reaches_from_what_is_frozen() -> None:
    model = Outline({"a.mask": (2,), "a.weight": (2, 2)}, {"a": ("a.",)}, frozenset({"a.mask"}))
    rows = [line.split() for line in describe(training(model, {}, OPTIMIZER, int), 0).splitlines()]
    assert rows[1:] == [["a", "4", "4", "1", "training"], ["a:", "unused", "2", "0", "1", "frozen"]]


def test_a_component_that_is_not_there_is_told_before_anything_starts(
    token_shards: Path, tmp_path: Path
) -> None:
    overrides = [f"run.dir={tmp_path}", "run.name=a", f"data.path={token_shards}"]
    config = load(QUICKSTART, [*overrides, "components.decodr.freeze=true"])
    with pytest.raises(UserError, match=r"components\.decodr: .* write decoder"):
        check(config, world_size=1, device="cpu", environ={})
    assert not list(tmp_path.iterdir())
