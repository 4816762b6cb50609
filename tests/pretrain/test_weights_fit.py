"""Imported weights against a model: what is taken, what grows, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from upstream_files import TINY, s1_state

from pretrain.models.gpt_sovits_s1.model import S1
from pretrain.weights.fit import Fit, compare, fit
from pretrain.weights.rules import AllowConfig
from pretrain.weights.table import by_component, by_parameter
from shards.errors import UserError

AUDIO, HEAD = "ar_audio_embedding.word_embeddings.weight", "ar_predict_layer.weight"
TEXT = "ar_text_embedding.word_embeddings.weight"
FOUND = s1_state(seed=1)


def fresh(**sizes: int) -> dict[str, Tensor]:
    return s1_state(TINY.model_copy(update=sizes))


def fitted(
    found: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    rename: Mapping[str, str] | None = None,
    seed: int = 0,
    **allow: Any,
) -> Fit:
    rules = AllowConfig.model_validate(allow)
    return fit(found, own, S1.components(), S1.growth(), rules, rename or {}, seed)


def statuses(result: Fit) -> dict[str, str]:
    return {row.name: row.status for row in result.rows}


def test_weights_that_fit_are_taken_as_they_are() -> None:
    half = {name: tensor.half() for name, tensor in FOUND.items()}
    result = fitted(half, fresh())
    assert {*statuses(result).values()} == {"loaded"}
    assert [*result.tensors] == [*FOUND]
    for name, tensor in result.tensors.items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, half[name].float())


def test_anything_else_is_one_error_that_counts_and_says_what_to_write() -> None:
    found = {name: tensor for name, tensor in FOUND.items() if not name.startswith("bert_proj")}
    found["extra.weight"] = torch.zeros(2)
    message = (
        r"^the weights do not fit the model: 1 misshaped \(ar_text_embedding\S* \[20, 8\] there "
        r"and \[24, 8\] here\): write allow.reshape=.*; 2 missing \(bert_proj.weight, "
        r"bert_proj.bias\): write allow.missing=.*; 1 unexpected \(extra.weight\): "
        r"write allow.unexpected="
    )
    with pytest.raises(UserError, match=message):
        fitted(found, fresh(phoneme_vocab_size=24))


def test_what_is_missing_keeps_the_models_own_values() -> None:
    found = {name: tensor for name, tensor in FOUND.items() if not name.startswith("bert_proj")}
    own = fresh()
    result = fitted(found, own, missing=["bert_proj"])
    for name in ("bert_proj.weight", "bert_proj.bias"):
        assert statuses(result)[name] == "missing" and torch.equal(result.tensors[name], own[name])


def test_what_is_unexpected_is_left_out() -> None:
    result = fitted({**FOUND, "old.a": torch.zeros(2)}, fresh(), unexpected=["old.*"])
    assert statuses(result)["old.a"] == "unexpected" and "old.a" not in result.tensors


def test_names_are_rewritten_in_order() -> None:
    found = {f"gpt.{name}".replace("h.layers", "blocks"): t for name, t in FOUND.items()}
    result = fitted(found, fresh(), {r"^gpt\.": "", r"blocks\.(\d+)": r"h.layers.\1"})
    assert {*statuses(result).values()} == {"renamed"}
    assert torch.equal(result.tensors[HEAD], FOUND[HEAD])


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        ({"transformer": "h"}, r"rename: 'transformer' is found in no name; the nearest names are"),
        ({"(": "h"}, r"rename: '\(': 'h' is no regular expression"),
        ({"bert": r"\3"}, r"rename: 'bert': .* is no regular expression and replacement"),
        ({r"\.(weight|bias)$": ""}, r"gives two tensors the same name \(bert_proj\)"),
    ],
)
def test_a_rename_that_does_nothing_sensible_is_a_user_error(
    rename: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        fitted(FOUND, fresh(), rename)


@pytest.mark.parametrize(
    ("allow", "message"),
    [
        ({"missing": ["bert_prj"]}, "allow.missing: 'bert_prj' matches nothing; .* are bert_proj"),
        ({"unexpected": ["decode"]}, "allow.unexpected: 'decode' matches nothing"),
        ({"reshape": {"*.embed": "mean"}}, r"allow.reshape: '\*.embed' matches nothing"),
        ({"depth": {"h.layer.*": "zero"}}, r"allow.depth: 'h.layer.\*' matches nothing"),
    ],
)
def test_a_pattern_that_matches_nothing_is_a_user_error(
    allow: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        fitted(FOUND, fresh(), **allow)


def test_new_rows_are_spread_as_the_old_ones() -> None:
    found = {**FOUND, TEXT: torch.randn(20, 8) * torch.arange(1.0, 9) + 5}
    result = fitted(found, fresh(phoneme_vocab_size=4000), reshape={TEXT: "mean"})
    rows, old = result.tensors[TEXT], found[TEXT]
    assert statuses(result)[TEXT] == "reshaped"
    assert torch.equal(rows[:20], old)
    torch.testing.assert_close(rows[20:].mean(0), old.mean(0), rtol=0, atol=0.5)
    torch.testing.assert_close(rows[20:].std(0), old.std(0, correction=0), rtol=0.1, atol=0)


def test_new_rows_depend_on_the_seed_and_the_name_alone() -> None:
    own = fresh(phoneme_vocab_size=24)
    first, again = (fitted(FOUND, own, reshape={TEXT: "mean"}).tensors[TEXT] for _ in range(2))
    other = fitted(FOUND, own, reshape={TEXT: "mean"}, seed=1).tensors[TEXT]
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_new_rows_can_be_zeros() -> None:
    rows = fitted(FOUND, fresh(phoneme_vocab_size=24), reshape={"text_embedding": "zeros"})
    assert torch.equal(rows.tensors[TEXT][:20], FOUND[TEXT])
    assert not rows.tensors[TEXT][20:].any()


@pytest.mark.parametrize("name", [AUDIO, HEAD])
def test_the_end_of_sequence_stays_the_last_token(name: str) -> None:
    found = {**FOUND, AUDIO: FOUND[AUDIO].clone(), HEAD: FOUND[HEAD].clone()}
    found[name][-1] = 1e6
    rows = fitted(found, fresh(vocab_size=50), reshape={AUDIO: "mean", HEAD: "mean"}).tensors[name]
    assert torch.equal(rows[:32], found[name][:32]) and torch.equal(rows[-1], found[name][-1])
    assert rows[32:49].abs().max() < 1e3, "the new tokens are no mixtures with EOS"


def test_a_wider_model_keeps_the_old_numbers_in_its_corner() -> None:
    own = fresh(hidden_dim=12)
    result = fitted(FOUND, own, reshape={"*": "mean"}, missing=["*.in_proj_*"])
    for name, old in FOUND.items():
        corner = tuple(slice(size) for size in old.shape)
        if "in_proj" in name:
            assert torch.equal(result.tensors[name], own[name])
        elif name not in {AUDIO, HEAD}:
            assert torch.equal(result.tensors[name][corner], old), name
        assert result.tensors[name].isfinite().all()


def test_projections_that_are_packed_into_one_do_not_grow() -> None:
    with pytest.raises(UserError, match=r"4 misshaped \(h\.layers\.0\.self_attn\.in_proj_weight"):
        fitted(FOUND, fresh(hidden_dim=12), reshape={"*": "mean"})


def test_what_shrinks_never_fits() -> None:
    own = fresh(phoneme_vocab_size=19)
    with pytest.raises(UserError, match=r"1 misshaped .*or allow.missing=\[PATTERN\] to keep"):
        fitted(FOUND, own, reshape={"*": "mean"})
    result = fitted(FOUND, own, missing=[TEXT])
    assert statuses(result)[TEXT] == "misshaped" and torch.equal(result.tensors[TEXT], own[TEXT])


@pytest.mark.parametrize("how", ["copy_last", "zero"])
@pytest.mark.parametrize("pattern", ["decoder", "h.layers.*"])
def test_new_layers_are_copies_of_the_last(how: str, pattern: str) -> None:
    own = fresh(n_layer=4)
    result = fitted(FOUND, own, depth={pattern: how})
    for layer in (2, 3):
        for name in (name for name in own if name.startswith(f"h.layers.{layer}.")):
            last = FOUND[name.replace(f"layers.{layer}", "layers.1")]
            zeroed = how == "zero" and ("out_proj" in name or "linear2" in name)
            expected = torch.zeros_like(last) if zeroed else last
            assert torch.equal(result.tensors[name], expected), name
            assert statuses(result)[name] == "grown"
    assert statuses(result)["h.layers.1.linear1.bias"] == "loaded"


def test_fewer_layers_than_the_weights_have_are_an_error_unless_allowed() -> None:
    with pytest.raises(UserError, match=r"12 unexpected \(h.layers.1"):
        fitted(FOUND, fresh(n_layer=1))
    fitted(FOUND, fresh(n_layer=1), unexpected=["h.layers.1.*"])


def test_the_table_counts_numbers_by_component() -> None:
    found = {**FOUND, "extra": torch.zeros(7)}
    del found["bert_proj.bias"]
    allowed = AllowConfig(missing=("bert_proj",), unexpected=("extra",))
    result = compare(found, fresh(), S1.components(), S1.growth(), allowed, {}, 0)
    table = by_component(result)
    cells = {str(column.header): list(column.cells) for column in table.columns}
    row = cells["component"].index("bert_proj")
    assert (cells["loaded"][row], cells["missing"][row]) == ("8,192", "8")
    assert cells["unexpected"][-1] == "7" and cells["component"][-2:] == ["(other)", "all"]
    assert by_parameter(result).row_count == len(FOUND) + 1
