"""Phoneme ids from espeak-ng's IPA: one fixed table for every language."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from shards import espeak
from shards.clip import Clip
from shards.errors import UserError

if TYPE_CHECKING:
    from shards.pack.config import PackConfig

PADDING, UNKNOWN = "_", "<unk>"

_PUNCTUATION = " ,.?!;:'\"-()…—"
_DIGITS = "0123456789"
_LATIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MORE_LETTERS = "æðøħıŋœþđłƀƈƍƙƛƞƥƫƭǀǁǂǃǝȡȴȵȶȷȸȹαβγδεθλφχωᴀᴇᵻᵿᶑ"
_MORE_MARKS = "|‖‿↑↓→↗↘ⁿ°"
# IPA letters; modifier letters (stress, length, tone); combining diacritics; raised letters.
_RANGES = ((0x0250, 0x02AF), (0x02B0, 0x02FF), (0x0300, 0x036F), (0x1D2C, 0x1D6A))


def _range_characters() -> Iterator[str]:
    for first, last in _RANGES:
        yield from map(chr, range(first, last + 1))


def _table() -> tuple[str, ...]:
    """The symbols by id. Ids are stored in shards: only ever append."""
    # NFD rewrites a few combining marks (U+0344 and the like); their ids could never be used.
    ranges = (c for c in _range_characters() if unicodedata.normalize("NFD", c) == c)
    characters = (_PUNCTUATION, _DIGITS, _LATIN, _MORE_LETTERS, _MORE_MARKS)
    return PADDING, UNKNOWN, *"".join(characters), *ranges


SYMBOLS: tuple[str, ...] = _table()
_IDS = {symbol: index for index, symbol in enumerate(SYMBOLS)}

# What people write, where it differs from the name of espeak's voice.
_VOICES = {
    "en": "en-us",
    "en-uk": "en-gb",
    "zh": "cmn",
    "zh-hk": "yue",
    "zh-yue": "yue",
    "jp": "ja",
    "kr": "ko",
    "no": "nb",
    "english": "en-us",
    "chinese": "cmn",
    "mandarin": "cmn",
    "cantonese": "yue",
    "japanese": "ja",
    "korean": "ko",
    "german": "de",
    "french": "fr",
    "spanish": "es",
    "italian": "it",
    "portuguese": "pt",
    "russian": "ru",
}


# In other languages each comes out as the English words "Chinese letter".
_READ_HAN = frozenset({"cmn", "cmn-latn-pinyin", "yue", "hak"})
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


@dataclass(frozen=True)
class EspeakPhonemes:
    """``phonemes.espeak``: the text's IPA as ids of a fixed table, int16 [phonemes]."""

    member: ClassVar[str] = "phonemes.npy"
    needs_text: ClassVar[bool] = True
    needs_audio: ClassVar[bool] = False

    @classmethod
    def configured(cls, config: PackConfig, out: Path) -> EspeakPhonemes:
        """UserError if espeak-ng is not installed."""
        espeak.languages()
        return cls()

    def compute(self, clip: Clip) -> NDArray[Any]:
        """Phonemes of the clip's text in its language; ValueError where there are none."""
        voice = _voice_of(clip)
        if voice not in _READ_HAN and _HAN.search(clip.text):
            raise ValueError("Chinese characters, which espeak-ng reads in Chinese alone")
        ids = phoneme_ids(espeak.phonemize(clip.text, voice))
        if len(ids) == 0:
            raise ValueError("text without phonemes")
        return ids

    def about(self) -> dict[str, Any]:
        """The table's size."""
        return {"feature": "phonemes.espeak", "symbols": len(SYMBOLS)}


def _voice_of(clip: Clip) -> str:
    if not clip.language:
        raise ValueError("no language to speak the text in (the option language gives one)")
    try:
        return espeak_voice(clip.language)
    except UserError as unknown:
        raise ValueError(str(unknown)) from unknown


def phoneme_ids(ipa: str) -> NDArray[np.int16]:
    """int16 [phonemes]: one id of SYMBOLS per character of the NFD form of `ipa`."""
    unknown = _IDS[UNKNOWN]
    ids = [_IDS.get(character, unknown) for character in unicodedata.normalize("NFD", ipa)]
    return np.array(ids, dtype=np.int16)


def espeak_voice(language: str) -> str:
    """The espeak voice for a language code as people write it: "EN", "zh_CN", "de-DE", "ja".

    A region without a voice of its own gets the language's. An unknown language is a UserError.
    """
    code = language.strip().lower().replace("_", "-")
    known = espeak.languages()
    for candidate in (code, code.partition("-")[0]):
        voice = _VOICES.get(candidate, candidate)
        if voice in known:
            return voice
    raise UserError(
        f"espeak-ng has no voice for the language '{language}'; "
        "write a code such as en, zh, ja, ko, de or fr"
    )
