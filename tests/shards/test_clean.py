"""Changes to the sound: trimming, denoising, loudness."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from spoken import RATE, Samples, spoken, with_noise, word

from shards.audio import Audio
from shards.quality.clean import CleanConfig, cleaned, require, trimmed

TRIM = CleanConfig(trim=True)
RATES = (8000, 16_000, 44_100, 192_000)


def sine(seconds: float, rate: int, peak: float) -> Samples:
    time = np.arange(round(seconds * rate)) / rate
    return (peak * np.sin(2 * np.pi * 997 * time)).astype(np.float32)


def silence(seconds: float, rate: int = RATE) -> Samples:
    return np.zeros(round(seconds * rate), np.float32)


def lufs(audio: Audio) -> float:
    import pyloudnorm

    return float(pyloudnorm.Meter(audio.sample_rate, "DeMan").integrated_loudness(audio.samples))


def level_db(samples: Samples) -> float:
    return float(10 * np.log10(np.square(samples, dtype=np.float64).mean()))


def padded_word(noise_db: float | None) -> Samples:
    samples = np.concatenate((silence(2), word("harbour"), silence(3)))
    return samples if noise_db is None else with_noise(samples, noise_db)


@pytest.mark.parametrize("noise_db", [None, 30, 15])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5])
def test_silence_at_the_ends_is_cut_off_but_for_what_is_kept(
    noise_db: float | None, kept: float
) -> None:
    audio = Audio(padded_word(noise_db), RATE)
    shorter, offset = trimmed(audio, CleanConfig(trim=True, keep_silence=kept))
    assert offset == pytest.approx(2 - kept, abs=0.06)
    assert shorter.seconds == pytest.approx(len(word("harbour")) / RATE + 2 * kept, abs=0.12)
    start = round(offset * RATE)
    assert np.array_equal(shorter.samples, audio.samples[start : start + len(shorter.samples)])


def test_pauses_inside_stay() -> None:
    parts = (silence(1), word("six"), silence(2), word("swans"), silence(1))
    shorter, _ = trimmed(Audio(np.concatenate(parts), RATE), TRIM)
    assert shorter.seconds == pytest.approx(
        2.2 + len(parts[1]) / RATE + len(parts[3]) / RATE, abs=0.1
    )


def test_less_silence_than_is_kept_stays() -> None:
    samples = np.concatenate((silence(0.05), word("six"), silence(0.02)))
    shorter, offset = trimmed(Audio(samples, RATE), TRIM)
    assert offset == 0
    assert np.array_equal(shorter.samples, samples)


@pytest.mark.parametrize("text", ["six", "fish", "shoe", "fifths", "swans"])
def test_soft_consonants_at_the_ends_are_no_silence(text: str) -> None:
    samples = np.concatenate((silence(1), word(text), silence(1)))
    shorter, offset = trimmed(Audio(samples, RATE), CleanConfig(trim=True, keep_silence=0.03))
    assert offset <= 1
    assert offset + shorter.seconds >= 1 + len(word(text)) / RATE


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("count", [0, 1, 90_000])
def test_a_silent_clip_is_not_trimmed(rate: int, count: int) -> None:
    shorter, offset = trimmed(Audio(np.zeros(count, np.float32), rate), TRIM)
    assert (len(shorter.samples), offset) == (count, 0.0)


def test_nothing_is_done_by_default() -> None:
    audio = Audio(padded_word(20), RATE)
    assert trimmed(audio, CleanConfig()) == (audio, 0.0)
    assert cleaned(audio, CleanConfig()) is audio


def in_pauses(samples: Samples) -> Samples:
    return np.concatenate((samples[: 2 * RATE], samples[-2 * RATE :]))


def test_denoising_takes_noise_out_of_the_pauses_and_leaves_the_speech() -> None:
    clean = np.concatenate((silence(2), spoken(), silence(2)))
    noisy = with_noise(clean, 10)
    denoised = cleaned(Audio(noisy, RATE), CleanConfig(denoise=1.0)).samples
    assert len(denoised) == len(noisy)
    assert denoised.dtype == np.float32
    assert level_db(in_pauses(denoised)) < level_db(in_pauses(noisy)) - 10
    assert level_db(denoised - clean) < level_db(noisy - clean) - 3


def test_the_share_says_how_much_noise_goes() -> None:
    noisy = with_noise(np.concatenate((silence(2), spoken(), silence(2))), 15)
    levels = [
        level_db(in_pauses(cleaned(Audio(noisy, RATE), CleanConfig(denoise=share)).samples))
        for share in (0.0, 0.3, 0.6, 0.9)
    ]
    assert levels == sorted(levels, reverse=True)
    # Six tenths of the amplitude less.
    assert levels[2] - levels[0] == pytest.approx(-8, abs=2)


def test_denoising_gives_the_same_samples_every_time() -> None:
    audio = Audio(with_noise(np.concatenate((silence(1), spoken(), silence(1))), 15), RATE)
    first, second = (cleaned(audio, CleanConfig(denoise=0.8)).samples for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_a_clip_without_pauses_is_not_denoised() -> None:
    audio = Audio(sine(2, 16_000, 0.3), 16_000)
    assert np.array_equal(cleaned(audio, CleanConfig(denoise=1.0)).samples, audio.samples)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("peak", [0.003, 0.05, 0.9])
def test_a_clip_is_brought_to_the_loudness_asked_for(rate: int, peak: float) -> None:
    louder = cleaned(Audio(sine(3, rate, peak), rate), CleanConfig(loudness=-23))
    assert lufs(louder) == pytest.approx(-23, abs=0.05)
    assert louder.samples.dtype == np.float32


def test_loudness_is_that_of_the_standard() -> None:
    # ITU-R BS.1770: a sine of 997 Hz at full scale has -3.01 LUFS.
    louder = cleaned(Audio(sine(3, 48_000, 1.0), 48_000), CleanConfig(loudness=-23))
    assert 20 * np.log10(np.abs(louder.samples).max()) == pytest.approx(-23 + 3.01, abs=0.02)


@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.399, 0.4])
def test_clips_shorter_than_a_measuring_block_are_measured_whole(seconds: float) -> None:
    louder = cleaned(Audio(sine(seconds, 16_000, 0.05), 16_000), CleanConfig(loudness=-20))
    assert np.abs(louder.samples).max() == pytest.approx(10 ** (-16.99 / 20), rel=0.1)


def test_a_gain_never_exceeds_full_scale() -> None:
    samples = sine(2, 16_000, 0.01)
    samples[5000] = 0.7
    louder = cleaned(Audio(samples, 16_000), CleanConfig(loudness=-5)).samples
    assert np.abs(louder).max() == pytest.approx(1)
    assert np.abs(louder).max() <= 1
    assert louder[:4000] == pytest.approx(samples[:4000] / 0.7, rel=1e-5)


def test_float_samples_beyond_full_scale_come_back_into_it() -> None:
    louder = cleaned(Audio(sine(2, 16_000, 3.0), 16_000), CleanConfig(loudness=0))
    assert np.abs(louder.samples).max() <= 1


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("count", [0, 1, 7, 90_000])
def test_silence_stays_as_it_is(rate: int, count: int) -> None:
    config = CleanConfig(denoise=1.0, loudness=-20)
    samples = np.zeros(count, np.float32)
    assert np.array_equal(cleaned(Audio(samples, rate), config).samples, samples)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("count", [1, 2, 100, 5000, 90_000])
def test_any_length_and_rate_can_be_cleaned(rate: int, count: int) -> None:
    samples = np.random.default_rng(8).normal(0, 0.1, count).astype(np.float32)
    samples[count // 2 :] *= 0.001
    found = cleaned(Audio(samples, rate), CleanConfig(denoise=1.0, loudness=-20)).samples
    assert len(found) == count
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("config", [CleanConfig(denoise=0.5), CleanConfig(loudness=-20)])
def test_samples_that_are_no_numbers_are_an_error(bad: float, config: CleanConfig) -> None:
    samples = spoken().copy()
    samples[1000] = bad
    with pytest.raises(ValueError, match="samples that are no numbers"):
        cleaned(Audio(samples, RATE), config)


@pytest.mark.parametrize(
    ("config", "library"),
    [
        (CleanConfig(denoise=0.5), "noisereduce"),
        (CleanConfig(loudness=-23), "pyloudnorm"),
    ],
)
def test_a_missing_library_is_one_sentence_before_and_during_the_work(
    config: CleanConfig, library: str
) -> None:
    script = f"""
import sys
sys.modules[{library!r}] = None
import numpy as np
from shards.audio import Audio
from shards.errors import UserError
from shards.quality.clean import CleanConfig, cleaned, require
require(CleanConfig(trim=True))
config = CleanConfig.model_validate_json({config.model_dump_json()!r})
samples = np.concatenate((np.zeros(8000), np.sin(np.arange(16000)))).astype(np.float32)
for work in (lambda: require(config), lambda: cleaned(Audio(samples, 16000), config)):
    try:
        work()
    except UserError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0] == lines[1]
    assert library in lines[0]
    assert "pip install 'segue-speech[clean]'" in lines[0]


def test_nothing_is_required_that_is_not_asked_for() -> None:
    require(CleanConfig(trim=True, denoise=0.0, loudness=None))
    require(CleanConfig(denoise=0.5, loudness=-20))
