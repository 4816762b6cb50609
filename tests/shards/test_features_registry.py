"""Asking for features by name."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import UserError
from shards.features.feature import Feature, FittedFeature
from shards.features.registry import FEATURES, features_named
from shards.pack.config import PackConfig

HERE = Path()
WITHOUT_MODELS = ("phonemes.espeak", "units.mfcc", "mel", "loudness")


def named(*names: str) -> tuple[Feature, ...]:
    return features_named(names, PackConfig(), HERE)


def test_features_come_in_the_order_they_were_asked_for() -> None:
    assert [f.member for f in named("mel", "phonemes.espeak", "loudness", "units.mfcc")] == [
        "mel.npy",
        "phonemes.npy",
        "loudness.npy",
        "semantic.npy",
    ]
    assert named() == ()


def test_only_features_with_a_codebook_are_fitted() -> None:
    fitted = [isinstance(feature, FittedFeature) for feature in named(*WITHOUT_MODELS)]
    assert fitted == [False, True, False, False]


def test_phonemes_need_text_and_the_others_need_audio() -> None:
    needs = [(feature.needs_text, feature.needs_audio) for feature in named(*WITHOUT_MODELS)]
    assert needs == [(True, False), (False, True), (False, True), (False, True)]


def test_features_survive_the_way_to_a_worker() -> None:
    features = named(*WITHOUT_MODELS)
    assert pickle.loads(pickle.dumps(features)) == features


@pytest.mark.parametrize(
    ("written", "meant"),
    [("units.hubret", "units.hubert"), ("mels", "mel"), ("phonemes", "phonemes.espeak")],
)
def test_an_unknown_name_is_answered_with_the_nearest_and_all(written: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"did you mean {meant}") as error:
        named("mel", written)
    assert all(name in str(error.value) for name in FEATURES)


@given(st.text())
def test_any_other_name_is_a_user_error(name: str) -> None:
    if name not in FEATURES:
        with pytest.raises(UserError, match="is unknown"):
            named(name)


@pytest.mark.parametrize("name", ["", "tab\tname", "nul\0", "言葉"])
def test_a_name_like_no_feature_suggests_none(name: str) -> None:
    with pytest.raises(UserError) as error:
        named(name)
    assert "did you mean" not in str(error.value)


def test_two_features_of_one_member_are_refused() -> None:
    with pytest.raises(UserError, match=r"units\.mfcc and units\.mfcc both write semantic\.npy"):
        named("units.mfcc", "mel", "units.mfcc")


@pytest.mark.parametrize(
    ("name", "option"),
    [("units.hubert", "hubert.model"), ("units.sovits", "sovits.cnhubert"), ("bert", "bert.model")],
)
def test_a_model_that_is_not_set_is_asked_for_with_its_files(name: str, option: str) -> None:
    with pytest.raises(UserError, match=f"{option}: not set; write {option}=FOLDER") as error:
        named(name)
    assert "config.json, model.safetensors or pytorch_model.bin, and" in str(error.value)


def test_naming_features_loads_no_heavy_library() -> None:
    code = (
        "import sys; import shards.features.registry, shards.pack.config\n"
        "print([m for m in ('torch', 'torchaudio', 'transformers', 'scipy', 'sklearn')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
