"""espeak-ng through its real library."""

import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from shards.errors import UserError
from shards.espeak import languages, phonemize, synthesize

ENGLISH = "Hello there, how are you? I am fine."
MANDARIN = "你好，今天天气怎么样？我们去公园吧。"


def speak(voice: str, text: str = ENGLISH) -> bytes:
    audio, _ = synthesize(text, voice, words_per_minute=170, pitch=50)
    return audio.tobytes()


@pytest.mark.parametrize(
    ("voice", "text"),
    [("en-us+f3", ENGLISH), ("en-gb+m2", ENGLISH), ("cmn+f1", MANDARIN)],
)
def test_a_voice_speaks_audible_int16_mono(voice: str, text: str) -> None:
    audio, rate = synthesize(text, voice, words_per_minute=170, pitch=50)
    assert (audio.dtype, audio.ndim) == (np.int16, 1)
    assert 1.0 < len(audio) / rate < 6.0
    assert np.abs(audio.astype(int)).max() > 3000


def test_speech_does_not_depend_on_what_was_spoken_before() -> None:
    first = speak("en-us+f3")
    speak("cmn+m1", MANDARIN)
    phonemize(ENGLISH, "en-gb")
    assert speak("en-us+f3") == first


def test_voice_rate_and_pitch_each_change_the_audio() -> None:
    spoken = [
        synthesize(ENGLISH, voice, words_per_minute=rate, pitch=pitch)[0]
        for voice, rate, pitch in [
            ("en-us+f3", 150, 50),
            ("en-us+m3", 150, 50),
            ("en-us+f3", 250, 50),
            ("en-us+f3", 150, 90),
        ]
    ]
    assert len({audio.tobytes() for audio in spoken}) == 4
    assert len(spoken[2]) < len(spoken[0])


@pytest.mark.parametrize("voice", ["xx", "en-us+nobody", "nowhere+f1"])
def test_an_unknown_voice_is_named_in_the_error(voice: str) -> None:
    with pytest.raises(UserError, match=voice.replace("+", r"\+")):
        speak(voice)


def test_speaking_still_works_after_an_unknown_voice() -> None:
    with pytest.raises(UserError):
        speak("xx")
    assert speak("en-us")


def test_phonemes_keep_the_punctuation_of_every_clause() -> None:
    marks = [c for c in phonemize("One, two? Three! Four; “five.” six…", "en-us") if c in ",.?!"]
    assert marks == list(",?!,..")


def test_punctuation_inside_a_number_is_not_a_clause_end() -> None:
    assert "," not in phonemize("It costs 5,000 at 10:30", "en-us")


def test_mandarin_phonemes_carry_tones_and_full_width_punctuation() -> None:
    ipa = phonemize(MANDARIN, "cmn")
    assert ipa.startswith("ni2χˈɑu2, ")
    assert [c for c in ipa if c in ",.?!"] == list(",?.")
    assert all(any(c.isdigit() for c in word) for word in ipa.split())


def test_mandarin_retroflexes_are_not_mistaken_for_full_stops() -> None:
    assert "." not in phonemize("这是什么", "cmn")


def test_english_inside_mandarin_leaves_no_language_switch_behind() -> None:
    ipa = phonemize("这是Python吗？", "cmn")
    assert "pˈaɪθən" in ipa
    assert "(" not in ipa


@pytest.mark.parametrize("text", ["", "   ", "!?", "…"])
def test_text_without_words_has_no_phonemes(text: str) -> None:
    assert phonemize(text, "en-us") == ""


def test_text_after_a_nul_character_is_still_read() -> None:
    assert "wˈɜːld" in phonemize("hello\0world", "en-us")


def test_the_wheel_has_the_languages_the_models_are_trained_on() -> None:
    assert {"en-us", "en-gb", "cmn", "ja", "ko", "yue", "de", "fr"} <= languages()


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_child_processes_speak_the_same_after_the_parent_has_spoken(start: str) -> None:
    expected = speak("en-us+f3")
    phonemize(ENGLISH, "cmn")
    with ProcessPoolExecutor(2, mp_context=get_context(start)) as pool:
        assert list(pool.map(speak, ["en-us+f3"] * 4)) == [expected] * 4


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_process_that_has_spoken_exits_cleanly() -> None:
    code = "from shards.espeak import phonemize; print(phonemize('yes', 'en-us'))"
    ended = run_python(code)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "jˈɛs\n", "")


def test_without_the_wheel_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['espeakng_loader'] = None\n"
        "from shards.espeak import phonemize\n"
        "phonemize('yes', 'en-us')"
    )
    assert "pip install espeakng-loader" in run_python(code).stderr
