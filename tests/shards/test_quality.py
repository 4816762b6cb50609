"""What a clip's sound is worth, and what is too bad to get in."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from spoken import RATE, Samples, rounded, spoken, with_noise

from shards.audio import Audio
from shards.quality.figures import FIGURES, measure
from shards.quality.limits import QualityConfig, breach

GOOD = {
    "seconds": 3.0,
    "peak": 0.5,
    "clipping": 0.0,
    "silence": 0.2,
    "snr_db": 30.0,
    "dc": 0.0,
    "bandwidth_hz": 11_000.0,
    "phonemes_per_second": 12.0,
}


def figure(name: str, samples: Samples, rate: int = RATE) -> float:
    return measure(Audio(samples.astype(np.float32), rate))[name]


def white(seconds: float, rate: int, level: float) -> Samples:
    noise = np.random.default_rng(1).normal(0, level, round(seconds * rate))
    return noise.astype(np.float32)


def as_mp3(samples: Samples, rate: int, compression: float) -> Samples:
    file = io.BytesIO()
    settings = {"subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT"}
    soundfile.write(file, samples, rate, format="MP3", compression_level=compression, **settings)
    return soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")[0]


@given(
    hnp.arrays(np.float32, st.integers(0, 700), elements=st.floats(-2, 2, width=32)),
    st.sampled_from([4000, 8000, 11_025, 44_100, 192_000]),
)
def test_figures_of_any_samples_are_finite_and_in_range(samples: Samples, rate: int) -> None:
    found = measure(Audio(samples, rate))
    assert tuple(found) == FIGURES
    assert all(type(value) is float and math.isfinite(value) for value in found.values())
    assert 0 <= found["clipping"] <= 1
    assert 0 <= found["silence"] <= 1
    assert 0 <= found["bandwidth_hz"] <= rate / 2
    assert abs(found["dc"]) <= found["peak"] * 1.001


@pytest.mark.parametrize("count", [0, 1, 50_000])
def test_nothing_but_zeros_is_all_silence(count: int) -> None:
    found = measure(Audio(np.zeros(count, np.float32), 16_000))
    assert found == {**dict.fromkeys(FIGURES, 0.0), "silence": 1.0}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e20])
def test_samples_that_are_no_numbers_are_an_error_wherever_they_are(bad: float) -> None:
    for place in (0, 700, 999):
        samples = np.zeros(1000, np.float32)
        samples[place] = bad
        with pytest.raises(ValueError, match="samples that are no numbers"):
            measure(Audio(samples, 16_000))


def test_peak_and_offset_are_exact() -> None:
    samples = np.tile(np.float32([0.25, -0.75]), 50_000)
    assert figure("peak", samples) == 0.75
    assert figure("dc", samples) == pytest.approx(-0.25, abs=1e-7)


@pytest.mark.parametrize("gain", [2.0, 5.0, 15.0])
@pytest.mark.parametrize("bits", [8, 16, 24])
def test_clipping_is_the_share_of_samples_cut_off(gain: float, bits: int) -> None:
    louder = gain * spoken() / np.abs(spoken()).max()
    share = float((np.abs(louder) >= 1).mean())
    assert figure("clipping", rounded(louder, bits)) == pytest.approx(share, rel=0.3)


def test_clipping_is_found_in_float_beyond_full_scale_and_after_turning_it_down() -> None:
    louder = 5 * spoken() / np.abs(spoken()).max()
    expected = figure("clipping", np.clip(louder, -1, 1))
    assert expected > 0.05
    assert figure("clipping", louder) == pytest.approx(expected, rel=0.05)
    assert figure("clipping", 0.3 * np.clip(louder, -1, 1)) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("bits", [8, 16, 24])
@pytest.mark.parametrize("peak", [1.0, 0.5, 0.02])
def test_unclipped_speech_has_no_clipping(bits: int, peak: float) -> None:
    samples = peak * spoken() / np.abs(spoken()).max()
    assert figure("clipping", rounded(samples, bits)) < 0.001


def test_single_samples_at_full_scale_are_not_clipping() -> None:
    samples = spoken().copy()
    samples[::1000] = 1.0
    samples[500::1000] = -1.0
    assert figure("clipping", samples) == 0


@pytest.mark.parametrize("gain", [1.0, 0.05])
def test_silence_is_the_share_of_quiet_frames_however_loud_the_rest(gain: float) -> None:
    speech = np.tile(spoken("aaaaaaaah")[3000:9000], 8)
    hum = white(len(speech) / RATE, RATE, 1e-5)
    samples = gain * np.concatenate((speech, hum, hum, speech))
    assert figure("silence", samples) == pytest.approx(0.5, abs=0.02)


def test_loud_clicks_do_not_make_speech_silent() -> None:
    samples = (0.01 * spoken()).astype(np.float32)
    samples[::40_000] = 1.0
    assert figure("silence", samples) < 0.5


@pytest.mark.parametrize("voice", ["en-us+f3", "en-gb+m2", "en-us+m4"])
@pytest.mark.parametrize("snr", [0, 5, 10, 15, 20, 30, 40])
def test_the_snr_of_speech_in_white_noise_is_estimated_within_3_db(voice: str, snr: int) -> None:
    found = figure("snr_db", with_noise(spoken(voice=voice), snr))
    assert found == pytest.approx(snr, abs=3)


@pytest.mark.parametrize("text", ["Where is the key?", "Six swans."])
def test_snr_ranks_short_clips_that_hardly_pause(text: str) -> None:
    found = [figure("snr_db", with_noise(spoken(text), snr)) for snr in (0, 5, 10, 15, 20, 30)]
    assert found == sorted(found)
    assert found[:3] == pytest.approx([0, 5, 10], abs=3)


def test_digital_silence_does_not_hide_noise() -> None:
    noisy = with_noise(spoken(), 10)
    padded = np.concatenate((np.zeros(30_000, np.float32), noisy, np.zeros(30_000, np.float32)))
    padded = np.insert(padded, 80_000, np.zeros(20_000))
    assert figure("snr_db", padded) == pytest.approx(10, abs=3)


def dithered(samples: Samples) -> Samples:
    rng = np.random.default_rng(2)
    triangular = rng.random(len(samples)) - rng.random(len(samples))
    return rounded(samples + triangular.astype(np.float32) / 32768, 16)


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
@pytest.mark.parametrize("gain", [1.0, 0.03])
def test_upsampled_8_khz_material_has_a_bandwidth_of_4_khz(rate: int, gain: float) -> None:
    narrow = soxr.resample(gain * spoken(), RATE, 8000)
    upsampled = soxr.resample(narrow, 8000, rate)
    for stored in (upsampled, rounded(upsampled, 16), dithered(upsampled)):
        assert figure("bandwidth_hz", stored, rate) == pytest.approx(4000, rel=0.05)


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 48_000, 192_000])
@pytest.mark.parametrize("seconds", [0.1, 4.0])
def test_full_band_sound_has_a_bandwidth_of_half_its_rate(rate: int, seconds: float) -> None:
    samples = rounded(white(seconds, rate, 0.05), 16)
    assert figure("bandwidth_hz", samples, rate) == pytest.approx(rate / 2, rel=0.02)


def test_speech_with_all_its_fricatives_has_its_full_bandwidth() -> None:
    assert figure("bandwidth_hz", rounded(spoken(), 16)) > 10_500


def test_an_mp3s_low_pass_is_its_bandwidth() -> None:
    speech = soxr.resample(spoken(), RATE, 44_100)
    samples = speech + 0.3 * white(len(speech) / 44_100, 44_100, 0.1)[: len(speech)]
    narrow = figure("bandwidth_hz", rounded(as_mp3(samples, 44_100, 0.9), 16), 44_100)
    wide = figure("bandwidth_hz", rounded(as_mp3(samples, 44_100, 0.0), 16), 44_100)
    assert 15_000 < narrow < 17_500
    assert 19_000 < wide < 21_000


def test_rounding_and_dither_alone_have_no_bandwidth() -> None:
    assert figure("bandwidth_hz", dithered(np.zeros(40_000, np.float32))) == 0


def test_a_good_clip_breaks_no_limit() -> None:
    assert breach(GOOD, QualityConfig()) is None


def test_figures_that_are_missing_or_nan_are_not_judged() -> None:
    strict = QualityConfig(
        min_snr_db=20, min_bandwidth_hz=5000, min_phonemes_per_second=3, min_seconds=1
    )
    assert breach({}, strict) is None
    assert breach(dict.fromkeys(GOOD, math.nan), strict) is None


@pytest.mark.parametrize(
    ("name", "value", "limit", "expected"),
    [
        ("seconds", 0.05, {}, ("too short", "seconds 0.05 under 0.1")),
        ("peak", 0.0004, {}, ("too quiet", "peak 0.0004 under 0.001")),
        ("clipping", 0.23, {}, ("clipped", "clipping 0.23 over 0.1")),
        ("silence", 0.99, {}, ("mostly silence", "silence 0.99 over 0.98")),
        ("dc", 0.3, {}, ("constant offset", "dc 0.3 over 0.25")),
        ("dc", -0.3, {}, ("constant offset", "dc -0.3 under -0.25")),
        ("snr_db", 11.26, {"min_snr_db": 15}, ("too noisy", "snr_db 11.26 under 15")),
        (
            "bandwidth_hz",
            3953.0,
            {"min_bandwidth_hz": 7000},
            ("bandwidth too narrow", "bandwidth_hz 3953 under 7000"),
        ),
        (
            "phonemes_per_second",
            1.0,
            {"min_phonemes_per_second": 3},
            ("speech too slow", "phonemes_per_second 1 under 3"),
        ),
        (
            "phonemes_per_second",
            61.0,
            {},
            ("speech too fast", "phonemes_per_second 61 over 50"),
        ),
    ],
)
def test_a_broken_limit_is_a_reason_and_a_figure(
    name: str, value: float, limit: dict[str, float], expected: tuple[str, str]
) -> None:
    assert breach({**GOOD, name: value}, QualityConfig(**limit)) == expected


@pytest.mark.parametrize(
    ("key", "name", "value"),
    [("max_clipping", "clipping", 1.0), ("max_silence", "silence", 1.0), ("max_dc", "dc", -0.9)],
)
def test_a_limit_of_none_judges_nothing(key: str, name: str, value: float) -> None:
    assert breach({**GOOD, name: value}, QualityConfig(**{key: None})) is None


def test_a_figure_exactly_at_its_limit_is_good_enough() -> None:
    at_limits = {**GOOD, "seconds": 0.1, "peak": 0.001, "clipping": 0.1, "silence": 0.98}
    assert breach(at_limits, QualityConfig()) is None


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(40_000), "too quiet"),
        (np.full(40_000, 0.4), "constant offset"),
        (np.sign(np.sin(np.arange(40_000) / 30)), "clipped"),
        (np.concatenate((spoken()[9000:10_000], np.zeros(400_000))), "mostly silence"),
    ],
)
def test_the_clearly_broken_is_rejected_for_what_it_is(samples: Samples, reason: str) -> None:
    found = breach(measure(Audio(samples.astype(np.float32), RATE)), QualityConfig())
    assert found is not None
    assert found[0] == reason


@pytest.mark.parametrize("snr", [0, 10, 40])
@pytest.mark.parametrize("bits", [8, 16])
def test_speech_of_poor_quality_is_let_in_by_default(snr: int, bits: int) -> None:
    samples = rounded(0.2 * with_noise(spoken(), snr), bits)
    assert breach(measure(Audio(samples, RATE)), QualityConfig()) is None
