"""The fixed phoneme table and the voices behind language codes."""

import hashlib
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.clip import Clip
from shards.demo import _ENGLISH, _MANDARIN
from shards.errors import UserError
from shards.espeak import phonemize
from shards.features.phonemes_espeak import (
    SYMBOLS,
    UNKNOWN,
    EspeakPhonemes,
    espeak_voice,
    phoneme_ids,
)

UNKNOWN_ID = SYMBOLS.index(UNKNOWN)
EVERYDAY_ENGLISH = (
    "Dr. O'Neill paid $1,250.75 on 3/4/2021 — really?",
    "The quick brown fox jumps over the lazy dog; naïve café façade!",
    "“Genre”, “rouge” and (of course) loch: e.g. the U.S.A. & NASA at 10:30 p.m.",
    "Uh-oh... www.example.com, 50% off #1 @home!",
)
EVERYDAY_MANDARIN = (
    "二〇二五年3月14日，气温是-5.5℃。",
    "我用Python写了100行代码，OK吗？",
    "他说：“女儿绿旅馆”——真的……好！",
    "北京、上海；广州（深圳）《红楼梦》",
)


def unknown(text: str, voice: str) -> set[str]:
    ipa = unicodedata.normalize("NFD", phonemize(text, voice))
    return {c for c, known in zip(ipa, phoneme_ids(ipa) != UNKNOWN_ID, strict=True) if not known}


def test_the_table_never_changes() -> None:
    digest = hashlib.sha256("\n".join(SYMBOLS).encode()).hexdigest()
    assert digest == "9c9842897a5eadff82f0f1f964707c1826989a85a8a789ca8a67712226eb3091"


def test_the_table_is_small_without_repeats_and_starts_with_padding() -> None:
    assert SYMBOLS[:2] == ("_", "<unk>")
    assert len(set(SYMBOLS)) == len(SYMBOLS) < 512


def test_every_symbol_maps_to_its_own_id() -> None:
    ids = [phoneme_ids(symbol).tolist() for symbol in SYMBOLS if symbol != UNKNOWN]
    assert ids == [[i] for i, symbol in enumerate(SYMBOLS) if symbol != UNKNOWN]


def test_composed_and_decomposed_characters_have_the_same_ids() -> None:
    assert phoneme_ids("ç").tolist() == phoneme_ids("c\u0327").tolist()
    assert UNKNOWN_ID not in phoneme_ids("ç")


def test_a_foreign_character_is_unknown_and_keeps_its_place() -> None:
    assert phoneme_ids("a漢b").tolist() == [*phoneme_ids("a"), UNKNOWN_ID, *phoneme_ids("b")]


def test_no_phonemes_give_an_empty_int16_array() -> None:
    assert (phoneme_ids("").dtype, phoneme_ids("").shape) == (np.int16, (0,))


@given(st.text())
def test_any_text_gives_one_valid_id_per_decomposed_character(text: str) -> None:
    ids = phoneme_ids(text)
    assert len(ids) == len(unicodedata.normalize("NFD", text))
    assert all(0 <= i < len(SYMBOLS) for i in ids)


@pytest.mark.parametrize("voice", ["en-us", "en-gb"])
def test_english_has_no_unknown_phonemes(voice: str) -> None:
    texts = [*EVERYDAY_ENGLISH, *_ENGLISH.short, *sum(_ENGLISH.words.values(), ())]
    assert set().union(*(unknown(text, voice) for text in texts)) == set()


def test_mandarin_has_no_unknown_phonemes() -> None:
    texts = [*EVERYDAY_MANDARIN, *_MANDARIN.short, *sum(_MANDARIN.words.values(), ())]
    assert set().union(*(unknown(text, "cmn") for text in texts)) == set()


def test_every_common_hanzi_has_phonemes_of_the_table() -> None:
    hanzi = [chr(code) for code in range(0x4E00, 0x9FA6, 7)]
    for start in range(0, len(hanzi), 50):
        assert unknown("，".join(hanzi[start : start + 50]), "cmn") == set()


@pytest.mark.parametrize(
    ("language", "voice"),
    [
        ("en", "en-us"),
        ("EN", "en-us"),
        ("en-us", "en-us"),
        ("en_GB", "en-gb"),
        ("zh", "cmn"),
        ("ZH", "cmn"),
        ("zh-CN", "cmn"),
        ("cmn", "cmn"),
        ("yue", "yue"),
        ("ja", "ja"),
        ("JP", "ja"),
        ("ko", "ko"),
        ("de", "de"),
        ("de-DE", "de"),
        ("fr", "fr"),
        ("no", "nb"),
    ],
)
def test_a_language_code_finds_its_voice(language: str, voice: str) -> None:
    assert espeak_voice(language) == voice
    assert phonemize("a", voice)


@pytest.mark.parametrize("language", ["klingon", "", "xx-en"])
def test_an_unknown_language_is_named_in_the_error(language: str) -> None:
    with pytest.raises(UserError, match=f"'{language}'"):
        espeak_voice(language)


def clip_of(text: str, language: str) -> Clip:
    return Clip("clip", text, "", language, None, {})


def test_a_clip_gets_the_phonemes_of_its_language() -> None:
    found = EspeakPhonemes().compute(clip_of("Nobody noticed.", "EN"))
    assert found.tolist() == phoneme_ids(phonemize("Nobody noticed.", "en-us")).tolist()
    assert len(found) > 10 and found.dtype == np.int16


@pytest.mark.parametrize("text", ["", "...", "\0", "\t\n", "😀"])
def test_text_without_phonemes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^text without phonemes$"):
        EspeakPhonemes().compute(clip_of(text, "en"))


@pytest.mark.parametrize(("language", "reason"), [("KLINGON", "KLINGON"), ("", "^no language")])
def test_a_language_without_a_voice_is_refused(language: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        EspeakPhonemes().compute(clip_of("nuqneH", language))


@pytest.mark.parametrize(("text", "language"), [("東京です", "ja"), ("漢字", "ko"), ("你好", "EN")])
def test_chinese_characters_are_refused_where_espeak_would_name_them(
    text: str, language: str
) -> None:
    clip = Clip("a", text, "", language, None, {})
    with pytest.raises(ValueError, match="Chinese characters"):
        EspeakPhonemes().compute(clip)
    assert len(EspeakPhonemes().compute(Clip("a", "你好", "", "zh", None, {})))
    assert len(EspeakPhonemes().compute(Clip("a", "こんにちは", "", "ja", None, {})))
