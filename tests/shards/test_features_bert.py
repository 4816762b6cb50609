"""BERT features of Mandarin text, from a model folder on disk."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import HANZI, WIDTH, clip_of, save_bert
from transformers import BertModel

from shards.errors import UserError
from shards.features.bert import BertFeatures
from shards.features.feature import Feature
from shards.features.registry import features_named
from shards.pack.config import PackConfig

TEXT, WORD2PH = "你好,世界.", [2, 2, 1, 2, 3, 1]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BertModel]:
    folder = tmp_path_factory.mktemp("roberta")
    return folder, save_bert(folder)


@pytest.fixture(scope="module")
def bert(saved: tuple[Path, BertModel]) -> Feature:
    return bert_of(saved[0])


def bert_of(folder: Path) -> Feature:
    config = PackConfig.model_validate({"bert": {"model": str(folder)}})
    (feature,) = features_named(["bert"], config, folder)
    return feature


def test_every_phoneme_has_the_state_of_its_character(
    saved: tuple[Path, BertModel], bert: Feature
) -> None:
    words = (saved[0] / "vocab.txt").read_text(encoding="utf-8").split("\n")
    ids = [words.index(word) for word in ("[CLS]", *TEXT, "[SEP]")]
    with torch.inference_mode():
        states = saved[1](torch.tensor([ids]), output_hidden_states=True).hidden_states[-3][0]
    expected = [states[1:-1][i] for i, count in enumerate(WORD2PH) for _ in range(count)]
    found = pickle.loads(pickle.dumps(bert)).compute(clip_of(None, TEXT, "zh", word2ph=WORD2PH))
    assert found.dtype == np.float16 and found.shape == (WIDTH, sum(WORD2PH))
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, torch.stack(expected).T.numpy(), atol=2e-3)


@pytest.mark.parametrize("language", ["zh", "ZH", "zh-CN", "zh_TW", "cmn", ""])
def test_mandarin_is_known_by_its_code_or_by_word2ph_alone(bert: Feature, language: str) -> None:
    found = bert.compute(clip_of(None, TEXT, language, word2ph=WORD2PH))
    assert found is not None and found.shape == (WIDTH, sum(WORD2PH))


@pytest.mark.parametrize("language", ["en", "ja", "yue", "zh-HK", "zh_yue", "KLINGON"])
@pytest.mark.parametrize("facts", [{}, {"word2ph": WORD2PH}])
def test_other_languages_go_without(bert: Feature, language: str, facts: dict[str, Any]) -> None:
    assert bert.compute(clip_of(None, TEXT, language, **facts)) is None


def test_a_clip_of_no_language_and_no_word2ph_goes_without(bert: Feature) -> None:
    assert bert.compute(clip_of(None, TEXT)) is None
    assert bert.compute(clip_of(None, TEXT, word2ph=None)) is None


def test_mandarin_without_word2ph_is_refused(bert: Feature) -> None:
    with pytest.raises(ValueError, match=r"^no word2ph for the BERT features$"):
        bert.compute(clip_of(None, TEXT, "zh"))


@pytest.mark.parametrize(
    "word2ph", [[], [-1] * 6, [0] * 6, ["2"] * 6, [0.5] * 6, "222222", [[1]] * 6, [None] * 6, 6]
)
def test_word2ph_of_another_kind_is_refused(bert: Feature, word2ph: Any) -> None:
    with pytest.raises(ValueError, match=r"^word2ph is no list of numbers of phonemes$"):
        bert.compute(clip_of(None, TEXT, "zh", word2ph=word2ph))


def test_a_ragged_word2ph_is_refused(bert: Feature) -> None:
    with pytest.raises(ValueError):
        bert.compute(clip_of(None, TEXT, "zh", word2ph=[1, [2], 3, 4, 5, 6]))


@pytest.mark.parametrize("text", ["", TEXT[:-1], TEXT + "我"])
def test_word2ph_that_does_not_fit_the_text_is_refused(bert: Feature, text: str) -> None:
    with pytest.raises(ValueError, match=r"^word2ph does not fit the characters of the text$"):
        bert.compute(clip_of(None, text, "zh", word2ph=WORD2PH))


@pytest.mark.parametrize("text", ["ok", "你 ", "你\0", "你\t"])
def test_text_that_is_no_token_a_character_is_refused(bert: Feature, text: str) -> None:
    with pytest.raises(ValueError, match=r"^BERT reads the text as other tokens"):
        bert.compute(clip_of(None, text, "zh", word2ph=[1] * len(text)))


def test_text_beyond_the_models_positions_is_refused(bert: Feature) -> None:
    text = (HANZI * 3)[:31]
    assert bert.compute(clip_of(None, text[:30], "zh", word2ph=[1] * 30)) is not None
    with pytest.raises(ValueError, match=r"^text too long for the BERT model$"):
        bert.compute(clip_of(None, text, "zh", word2ph=[1] * 31))


def test_a_character_that_the_model_does_not_know_keeps_its_place(bert: Feature) -> None:
    found = bert.compute(clip_of(None, "你龘", "zh", word2ph=[1, 2]))
    assert found is not None and found.shape == (WIDTH, 3)


def test_a_tokenizer_file_alone_will_do(
    saved: tuple[Path, BertModel], bert: Feature, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    folder = shutil.copytree(saved[0], tmp_path / "roberta")
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    for path in folder.iterdir():
        if path.name not in {"config.json", "model.safetensors", "tokenizer.json"}:
            path.unlink()
    assert (folder / "tokenizer.json").is_file()
    clip = clip_of(None, TEXT, "zh", word2ph=WORD2PH)
    assert np.array_equal(bert_of(folder).compute(clip), bert.compute(clip))


@pytest.mark.parametrize("lost", ["config.json", "model.safetensors", "vocab.txt"])
def test_a_folder_that_lacks_a_file_says_what_it_should_hold(
    saved: tuple[Path, BertModel], tmp_path: Path, lost: str
) -> None:
    folder = shutil.copytree(saved[0], tmp_path / "roberta")
    (folder / lost).unlink()
    with pytest.raises(UserError, match=r"bert\.model: .* has no .*tokenizer\.json or vocab\.txt"):
        bert_of(folder)


def test_a_model_of_fewer_than_two_layers_is_refused(tmp_path: Path) -> None:
    save_bert(tmp_path, layers=1)
    with pytest.raises(UserError, match=r"bert\.model: .* has fewer than 2 layers"):
        bert_of(tmp_path)


def test_the_index_learns_the_size_and_the_weights(bert: Feature) -> None:
    about = bert.about()
    assert about["dimensions"] == WIDTH
    assert json.loads(json.dumps(about)) == about


def test_clips_without_text_or_audio_may_go_without(bert: Feature) -> None:
    assert isinstance(bert, BertFeatures)
    assert (bert.needs_text, bert.needs_audio) == (False, False)
