from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shards.text.languages import LANGUAGES, language_of
from shards.text.normalize import TextConfig, normalized
from shards.text.numbers import spelled

BOTH = TextConfig()
CLEAN = TextConfig(numbers=False)
NUMBERS = TextConfig(normalize=False)


def said(text: str, language: str = "en") -> str:
    return normalized(text, language, BOTH)


def clean(text: str) -> str:
    return normalized(text, "en", CLEAN)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a\tb\nc\r\n d", "a b c d"),
        ("a\0b", "a b"),
        ("  two   words \u3000", "two words"),
        ("ze\u200bro\u200f\ufeff wid\u00adth", "zero width"),
        ("pri\ue000vate \ud800half", "private half"),
        ("ＦＵＬＬ ﬁ ｶﾞ", "FULL fi ガ"),
        ("e\u0301", "é"),
        ("e\u200d\u0301", "é"),
        ("Ünïcödé 你好 مرحبا", "Ünïcödé 你好 مرحبا"),
        ("", ""),
        ("\n\t\0", ""),
    ],
)
def test_second_ways_to_write_and_control_characters_go(text: str, wanted: str) -> None:
    assert clean(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("<p>one</p><p>two</p>", "one two"),
        ('say <break time="1s"/> it', "say it"),
        ("<speak version='1.0'><s>hi</s></speak>", "hi"),
        ("<!-- note --><?xml version='1.0'?>text<unk>", "text"),
        ("AT&amp;T &#38; R&amp;amp;D &lt;b&gt;x", "AT&T & R&D x"),
        ("caf&eacute; &#x4e2d;&nbsp;&hellip;", "café 中 ..."),
        ("a < b and c > d", "a < b and c > d"),
        ("I <3 you <me and you>", "I <3 you <me and you>"),
        ("cats&not dogs &nonsense; Q&A", "cats&not dogs &nonsense; Q&A"),
        ("[laughter] (sic) {x} <", "[laughter] (sic) {x} <"),
        ("&#0;&#xD800;&#9999999;", "\ufffd\ufffd\ufffd"),
        ("<<b>b>x", "< b>x"),
    ],
)
def test_tags_and_entities_go_and_other_angles_stay(text: str, wanted: str) -> None:
    assert clean(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("21 dogs", "twenty-one dogs"),
        ("1,234.5", "one thousand two hundred and thirty-four point five"),
        ("0.05", "zero point zero five"),
        ("1st 22nd 3RD 1,000th", "first twenty-second third one thousandth"),
        ("50% or 5 %", "fifty percent or five percent"),
        ("$5, €3.50 and 7 €", "five dollars, three euro fifty cents and seven euro"),
        ("$5.123", "$ five point one two three"),
        ("-5, (-6) −7", "minus five, (minus six) minus seven"),
        ("5-3 and 90-2", "five - three and ninety - two"),
        ("B2B mp3 COVID-19 5km", "B two B mp three COVID-nineteen five km"),
        ("007", "zero zero seven"),
        ("12345678901234567", "one two three four five six seven eight nine zero "
         "one two three four five six seven"),
        ("10:30 and 10:05", "ten thirty and ten zero five"),
        ("1.2.3 and 1,2,3", "one two three and one,two,three"),
        ("１２ ٣٤ ５６", "twelve thirty-four fifty-six"),
        ("10² and 1½", "ten two and one one⁄two"),
        ("1,23", "one,twenty-three"),
        ("<3", "< three"),
    ],
)  # fmt: skip
def test_english_numbers_are_spelled(text: str, wanted: str) -> None:
    assert said(text) == wanted


@pytest.mark.parametrize(
    ("language", "text", "wanted"),
    [
        ("zh", "我有10个苹果", "我有十个苹果"),
        ("zh", "3.14和0.05", "三点一四和零点零五"),
        ("zh", "1,234.5，-5，１２", "一千二百三十四点五, 负五, 十二"),
        ("zh", "50%的人，-3%", "百分之五十的人,负百分之三"),
        ("zh", "100000000和10010", "一亿和一万零一十"),
        ("zh", "$5 ¥3.5 2€", "五美元 三点五元 二欧元"),
        ("zh", "007 12345678901234567", "零零七 一二三四五六七八九零一二三四五六七"),
        ("zh", "B2B", "B 二 B"),
        ("ko", "10개 3.14 -5 50%", "십개 삼 점 일 사 마이너스 오 오십 퍼센트"),
        ("de", "1.234,5", "eintausendzweihundertvierunddreißig Komma fünf"),
        ("de", "3,50 € für 5 %", "drei Euro und fünfzig Cent für fünf Prozent"),
        ("fr", "12 345 et 1er", "douze mille trois cent quarante-cinq et premier"),
        ("fr-CH", "90", "nonante"),
        ("es", "1.234,5 20%", "mil doscientos treinta y cuatro coma cinco veinte por ciento"),
        ("ru", "21,5", "двадцать один запятая пять"),
        ("ar", "١٢", "اثنا عشر"),
    ],
)
def test_other_languages_are_spelled_as_they_write_numbers(
    language: str, text: str, wanted: str
) -> None:
    assert said(text, language) == wanted


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("EN", "en"),
        ("en-US", "en"),
        (" en_gb ", "en"),
        ("zh", "zh"),
        ("ZH", "zh"),
        ("zh-CN", "zh"),
        ("zh_TW", "zh"),
        ("yue", "zh"),
        ("cmn", "zh"),
        ("kr", "ko"),
        ("pt-BR", "pt-br"),
        ("pt-PT", "pt"),
        ("nb-NO", "no"),
    ],
)
def test_languages_are_known_as_people_write_them(code: str, name: str) -> None:
    assert language_of(code) is LANGUAGES[name]


@pytest.mark.parametrize("language", ["", "xx", "tlh", "english please", "\0", "-"])
def test_an_unknown_language_keeps_its_digits(language: str) -> None:
    assert said("1st & $5, ٣  <b>50%", language) == "1st & $5, ٣ 50%"


def test_each_part_can_be_left_out() -> None:
    assert normalized("<b>5\0", "en", NUMBERS) == "<b> five\0".replace("> ", ">")
    assert normalized("<b>5\0", "en", CLEAN) == "5"
    neither = TextConfig(normalize=False, numbers=False)
    assert normalized("<b>5\0", "en", neither) == "<b>5\0"


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_language_says_numbers_apart_and_without_digits(name: str) -> None:
    language = LANGUAGES[name]
    numbers = [*range(0, 130), *(10**n for n in range(3, 15)), 999_999_999_999_999, 40_302]
    words = [spelled(str(number), language) for number in numbers]
    assert len(set(words)) == len(words)
    point = language.decimal[0]
    for sign in {"", *language.sums, *language.units}:
        amounts = {spelled(f"{sign}{n}{rest}", language) for n in (1, 2, 7) for rest in ("", f"{point}40")}  # noqa: E501  # fmt: skip
        assert len(amounts) == 6
        words += amounts
    words += [spelled(f"-3{point}07%", language), spelled("0012", language)]
    assert not [said for said in words if re.search(r"[\d|$€£¥₩]|^$|^\s|\s$|\s\s", said)]


PIECES = [
    *("<", "</", ">", "&", ";", "&amp;", "&lt;", "&#", "#", "x", "b", "<b>", "=", "<!--", "?"),
    *("$", "€", "%", "-", "−", ".", ",", "，", ":", "'", " ", "\u00a0", "\u3000", "\0", "\u200d"),
    *("1", "5", "23", "000", "7,000", "1.234", "٣", "５", "²", "½", "①", "st", "th", "er", "e"),
    *("\u0301", "中", "é", "ﬁ", "한", "ก", "＜", "＞", "＆", "；", "\ud800", "\ue000", "n", "l"),
]
texts = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
languages = st.one_of(st.sampled_from([*LANGUAGES, "EN", "jp", "xx"]), st.text(max_size=5))
configs = st.builds(TextConfig, normalize=st.booleans(), numbers=st.booleans())


@given(texts, languages, configs)
@example("<3>", "en", BOTH)
@example("&5;", "en", BOTH)
@settings(max_examples=700, deadline=None)
def test_it_never_raises_and_doing_it_again_changes_nothing(
    text: str, language: str, config: TextConfig
) -> None:
    once = normalized(text, language, config)
    assert normalized(once, language, config) == once


@given(texts, languages, st.booleans())
@settings(max_examples=500, deadline=None)
def test_what_comes_out_is_clean(text: str, language: str, numbers: bool) -> None:
    out = normalized(text, language, TextConfig(numbers=numbers))
    assert out == unicodedata.normalize("NFKC", out) == " ".join(out.split())
    assert not {unicodedata.category(c) for c in out} & {"Cc", "Cf", "Cs", "Co"}
    assert "&amp;" not in out and "<b>" not in out


@given(texts, st.sampled_from(sorted(LANGUAGES)))
@settings(max_examples=500, deadline=None)
def test_no_digit_is_left_in_a_language_that_is_known(text: str, language: str) -> None:
    assert not re.search(r"\d", normalized(text, language, BOTH))


def test_no_character_at_all_raises() -> None:
    everything = "".join(map(chr, range(0x20000)))
    assert said(everything) == said(said(everything))
