"""A small ctypes binding to espeak-ng: text to speech and text to IPA.

The library and its data come from the wheel `espeakng_loader`, imported at first use. espeak-ng
keeps its state in C globals, so there is one engine per process and calls are serialised by a
lock. An engine opened before a fork keeps working in the child: it has no threads.
"""

from __future__ import annotations

import _ctypes
import ctypes
import re
import threading
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shards.errors import UserError

_SYNCHRONOUS, _DONT_EXIT, _UTF8, _IPA = 2, 0x8000, 1, 2
_RATE, _PITCH = 1, 3
_SEED = 1
# espeak-ng 1.52 holds the path of its data in 160 bytes.
_MAX_PATH = 159
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)
# British English is the file `en`; espeak knows `en-gb` only as one of its languages.
_FILES = {"en-gb": "en"}

_MARKS = {",": ",，、;；:：—–", ".": ".。…", "!": "!！", "?": "?？"}
_CLAUSE_END = re.compile(rf"([{re.escape(''.join(_MARKS.values()))}]+)[^\w]*\w?$")
_LANGUAGE_SPAN = re.compile(r"\([a-z-]+\)")
# espeak prints these Mandarin phonemes by their ASCII names: the dot would read as a full stop
# and the tone 35 ("3") as the vowel ɜ.
_MANDARIN = {"s.": "ʂ", "z.": "ʐ", "i.": "ɨ", "ɜ": "3"}


class _Wheel(NamedTuple):
    library: str
    data: Path


@cache
def _wheel() -> _Wheel:
    try:
        import espeakng_loader
    except ImportError:
        raise UserError(
            "espeak-ng is not installed; install it with: pip install espeakng-loader"
        ) from None
    return _Wheel(espeakng_loader.get_library_path(), Path(espeakng_loader.get_data_path()))


class _Engine:
    """One load of the shared library, initialised to hand its audio to a callback."""

    def __init__(self) -> None:
        wheel = _wheel()
        self._library = ctypes.CDLL(wheel.library)
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._chunks: list[bytes] = []
        # espeak keeps a bare pointer to the callback: it must live as long as the engine.
        self._callback = _CALLBACK(self._receive)
        self.sample_rate = self._start(wheel.data)

    def _start(self, data: Path) -> int:
        rate = int(self._library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), _DONT_EXIT))
        if rate <= 0:
            raise UserError(
                f"espeak-ng could not read its data in {data}; reinstall espeakng-loader, "
                f"at a path of at most {_MAX_PATH} characters (this has {len(str(data))})"
            )
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(_SEED))
        return rate

    def _receive(self, samples: ctypes._Pointer[ctypes.c_short], count: int, _: object) -> int:
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, count * 2))
        return 0

    def select(self, voice: str) -> None:
        """Set `voice` ("LANGUAGE" or "LANGUAGE+VARIANT") for the calls that follow."""
        language, _, variant = voice.partition("+")
        # espeak takes an unknown variant without complaint and ignores it.
        known = not variant or (_wheel().data / "voices" / "!v" / variant).is_file()
        name = voice.replace(language, _FILES.get(language, language), 1)
        if not known or self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise UserError(f"espeak-ng has no voice '{voice}'; write one such as 'en-us+f3'")

    def speak(self, text: str, words_per_minute: int, pitch: int) -> NDArray[np.int16]:
        self._library.espeak_SetParameter(_RATE, words_per_minute, 0)
        self._library.espeak_SetParameter(_PITCH, pitch, 0)
        raw = _utf8(text)
        status = self._library.espeak_Synth(
            raw, ctypes.c_size_t(len(raw) + 1), 0, 0, 0, _UTF8, None, None
        )
        if status != 0:
            raise RuntimeError(f"espeak-ng failed with status {status} on the text {text!r}")
        return np.frombuffer(b"".join(self._chunks), np.int16)

    def clauses(self, text: str) -> list[tuple[str, str]]:
        """(IPA, the text it was read from) for every clause."""
        raw = ctypes.create_string_buffer(_utf8(text))
        start = ctypes.addressof(raw)
        position = ctypes.c_void_p(start)
        found, begin = [], 0
        while position.value:
            ipa = self._library.espeak_TextToPhonemes(ctypes.byref(position), _UTF8, _IPA)
            end = position.value - start if position.value else len(raw.value)
            found.append((ipa.decode(), raw.value[begin:end].decode(errors="ignore")))
            begin = end
        return found

    def close(self) -> None:
        self._library.espeak_Terminate()
        _ctypes.dlclose(self._library._handle)


_lock = threading.Lock()
_engine: _Engine | None = None


def synthesize(
    text: str, voice: str, *, words_per_minute: int, pitch: int
) -> tuple[NDArray[np.int16], int]:
    """Speak `text`: int16 mono [samples] and the sample rate in Hz; a pure function.

    `voice` is a language and a variant ("en-us+f3", "en-gb+m2", "cmn+f1"), `pitch` is 0 to 99 and
    `words_per_minute` 80 to 450. An unknown voice is a UserError.
    """
    with _lock:
        # Flutter and noise run on from one utterance to the next in C statics that even
        # espeak_Terminate leaves alone: only a fresh load makes the audio repeatable.
        engine = _reopen()
        engine.select(voice)
        return engine.speak(text, words_per_minute, pitch), engine.sample_rate


def phonemize(text: str, voice: str) -> str:
    """The IPA of `text`, its clauses ended by , . ? or ! as the text has them.

    Text without a letter or digit gives "". An unknown voice is a UserError.
    """
    if not any(character.isalnum() for character in text):
        return ""
    with _lock:
        engine = _engine or _reopen()
        engine.select(voice)
        clauses = engine.clauses(text)
    is_mandarin = voice.startswith("cmn")
    spoken = (_tidy(ipa, is_mandarin) + _mark(source) for ipa, source in clauses if ipa)
    return " ".join(spoken)


def languages() -> frozenset[str]:
    """The lower-case language codes that espeak-ng has a voice for."""
    files = (_wheel().data / "lang").rglob("*")
    return frozenset(path.name.lower() for path in files if path.is_file()) | _FILES.keys()


def _reopen() -> _Engine:
    global _engine
    if _engine is not None:
        _engine.close()
        _engine = None
    _engine = _Engine()
    return _engine


def _utf8(text: str) -> bytes:
    return text.replace("\0", " ").encode()


def _mark(source: str) -> str:
    """The punctuation that ends a clause; `source` may run one character into the next clause."""
    end = _CLAUSE_END.search(source)
    if end is None:
        return ""
    return next(mark for mark in "?!.," if set(end[1]) & set(_MARKS[mark]))


def _tidy(ipa: str, is_mandarin: bool) -> str:
    """Drop the "(en)...(cmn)" language switches; rewrite what lies outside them if Mandarin."""
    if not is_mandarin:
        return _LANGUAGE_SPAN.sub("", ipa).strip()
    parts = re.split(r"\((?!cmn)[a-z-]+\)(.*?)(?:\(cmn\)|$)", ipa)
    parts[::2] = [_rewrite_mandarin(part) for part in parts[::2]]
    return _LANGUAGE_SPAN.sub("", "".join(parts)).strip()


def _rewrite_mandarin(ipa: str) -> str:
    for written, meant in _MANDARIN.items():
        ipa = ipa.replace(written, meant)
    return ipa
