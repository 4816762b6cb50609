from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from shards.audio import Audio, AudioPlace
from shards.errors import UserError
from shards.features.kmeans import UnitsConfig
from shards.pack.config import PackConfig
from shards.pack.encode import flac
from shards.pack.job import pack
from shards.pack.recipe import Recipe
from shards.pack.takes import RefusedError, Take, span, takes
from shards.quality.cut import CutConfig
from shards.sources.folder import AudioFolder
from shards.sources.source import Recording

RATE = 8000
Samples = npt.NDArray[np.float32]


def sound(seconds: float, rate: int = RATE, seed: int = 0) -> Samples:
    """Noise that comes and goes, as speech does."""
    times = np.arange(round(seconds * rate)) / rate
    beats = np.clip(np.sin(2 * np.pi * times / 1.5), 0.001, 1)
    noise = np.random.default_rng(seed).standard_normal(len(times))
    return (0.2 * beats * noise).clip(-1, 1).astype(np.float32)


def encoded(samples: Samples, kind: str, rate: int = RATE, **how: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, **how)
    return file.getvalue()


def claiming(data: bytes, frames: int) -> bytes:
    """A FLAC file whose header tells of another number of frames."""
    head = bytearray(data)
    head[21] = (head[21] & 0xF0) | frames >> 32
    head[22:26] = (frames & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(head)


def recipe_of(corpus: Path, **settings: Any) -> Recipe:
    config = PackConfig(features=(), **settings)
    return Recipe.of(AudioFolder(corpus, config), config, corpus.parent / "out")


def taken(
    tmp_path: Path,
    data: bytes,
    recording: Recording | None = None,
    carried: Mapping[str, bytes] | None = None,
    **settings: Any,
) -> list[Take]:
    """What comes of a file that a corpus has."""
    path = tmp_path / "corpus" / "clip"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    found = replace(recording or Recording("clip"), audio=AudioPlace(path))
    return list(takes(recipe_of(path.parent, **settings), found, carried or {}))


def refused(tmp_path: Path, data: bytes, recording: Recording | None = None) -> tuple[str, str]:
    with pytest.raises(RefusedError) as error:
        taken(tmp_path, data, recording)
    return error.value.reason, error.value.figure


def only_audio(found: list[Take]) -> Audio:
    assert len(found) == 1 and found[0].audio is not None
    return found[0].audio


def test_an_mp3_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    whole = encoded(sound(6, 24_000), "MP3", 24_000)
    assert only_audio(taken(tmp_path, whole)).seconds == pytest.approx(6, abs=0.1)
    reason, figure = refused(tmp_path, whole[: len(whole) // 2])
    assert reason == "the audio ends early"
    assert figure.startswith("decoded 2.") and figure.endswith(" s of 6.00 s")


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\0\0\0\0\x02\x01" + bytes(257)])
def test_an_mp3_whose_header_tells_no_length_is_taken_as_it_is(tmp_path: Path, tag: bytes) -> None:
    samples = sound(6, 24_000)
    samples[: 2 * 24_000] *= 1e-4
    data = encoded(samples, "MP3", 24_000, bitrate_mode="VARIABLE", compression_level=0.5)
    untold = tag + data[data.index(b"\xff\xf3", 4) :]
    assert soundfile.info(io.BytesIO(untold)).duration > 10
    assert only_audio(taken(tmp_path, untold)).seconds == pytest.approx(6, abs=0.1)


@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_a_wav_that_was_cut_off_is_refused(tmp_path: Path, kind: str) -> None:
    data = encoded(sound(4), kind)
    assert refused(tmp_path, data[: len(data) // 4]) == (
        "the audio ends early",
        "decoded 1.00 s of 4.00 s",
    )


def test_a_wav_from_a_pipe_has_no_length_to_keep(tmp_path: Path) -> None:
    data = bytearray(encoded(sound(2), "WAV"))
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    assert only_audio(taken(tmp_path, bytes(data))).seconds == 2


@pytest.mark.parametrize(
    ("start", "seconds", "figure"),
    [
        (0.0, 10.0, "decoded 1.00 s of 10.00 s"),
        (0.5, 0.9, "decoded 0.50 s of 0.90 s"),
        (1.0, None, "1.00 s, to be read from 1.00 s on"),
        (7.0, 1.0, "1.00 s, to be read from 7.00 s on"),
        (1e30, 1e30, None),
        (0.0, 1e308, None),
    ],
)
def test_a_stretch_that_lies_beyond_the_end_is_refused(
    tmp_path: Path, start: float, seconds: float | None, figure: str | None
) -> None:
    found = refused(tmp_path, encoded(sound(1), "WAV"), Recording("a", None, start, seconds))
    assert found[0] == "the audio ends early"
    assert figure is None or found[1] == figure


@pytest.mark.parametrize(
    ("start", "seconds", "samples"),
    [
        (0.0, None, 8000),
        (0.0, 1.1, 8000),
        (0.0, 0.9, 8000),
        (0.0, 0.5, 4000),
        (0.25, 0.5, 4000),
        (0.5, 0.6, 4000),
    ],
)
def test_lengths_are_taken_as_rounded(
    tmp_path: Path, start: float, seconds: float | None, samples: int
) -> None:
    audio = only_audio(
        taken(tmp_path, encoded(sound(1), "WAV"), Recording("a", None, start, seconds))
    )
    assert len(audio.samples) == samples
    first = round(start * RATE)
    assert np.allclose(audio.samples, sound(1)[first : first + samples], atol=1e-4)


@given(
    start=st.floats(0, allow_nan=False, allow_infinity=False),
    seconds=st.none() | st.floats(0, exclude_min=True, allow_nan=False, allow_infinity=False),
)
def test_no_stretch_reaches_out_of_its_file(start: float, seconds: float | None) -> None:
    with soundfile.SoundFile(io.BytesIO(encoded(sound(1), "WAV"))) as file:
        try:
            begin, frames = span(Recording("a", None, start, seconds), file)
        except RefusedError:
            assert start >= 1 - 1 / RATE
            return
    assert 0 <= begin <= begin + frames <= 8000


@pytest.mark.parametrize("kind", ["MP3", "WAV"])
def test_a_long_recording_that_ends_early_gives_its_pieces_first(tmp_path: Path, kind: str) -> None:
    whole = encoded(sound(60, 24_000), kind, 24_000)
    path = tmp_path / "clip"
    path.write_bytes(whole[: len(whole) // 2])
    recipe = recipe_of(tmp_path, cut=CutConfig(max_seconds=10))
    found = takes(recipe, Recording("a", AudioPlace(path)), {})
    seconds = 0.0
    with pytest.raises(RefusedError, match="the audio ends early"):
        for piece in found:
            seconds += piece.audio.seconds if piece.audio else 0
    assert seconds > 20


def test_what_comes_with_files_of_its_own_is_read_whole_however_long(tmp_path: Path) -> None:
    audio = only_audio(
        taken(tmp_path, encoded(sound(130), "FLAC"), carried={"npy": b""}, cut=CutConfig())
    )
    assert np.allclose(audio.samples, sound(130), atol=1e-4)


def test_a_mistake_in_cutting_is_not_blamed_on_the_audio(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sound(60), RATE)
    recipe = recipe_of(tmp_path)
    cut = recipe.config.cut.model_copy(update={"min_seconds": "1"})
    broken = replace(recipe, config=recipe.config.model_copy(update={"cut": cut}))
    with pytest.raises(TypeError):
        list(takes(broken, Recording("a", AudioPlace(tmp_path / "a.wav")), {}))


@pytest.mark.parametrize("data", [b"", b"RIFF", b"no audio at all" * 99])
def test_what_is_no_audio_is_refused(tmp_path: Path, data: bytes) -> None:
    assert refused(tmp_path, data)[0] == "audio cannot be read"


def test_a_file_that_is_missing_is_refused_while_the_corpus_is_there(tmp_path: Path) -> None:
    gone = Recording("a", AudioPlace(tmp_path / "gone.wav"))
    with pytest.raises(RefusedError, match="the audio file is not there"):
        list(takes(recipe_of(tmp_path), gone, {}))


@pytest.mark.parametrize("size", [None, 100])
def test_a_corpus_that_has_gone_away_is_no_fault_of_its_clips(
    tmp_path: Path, size: int | None
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    recipe = recipe_of(corpus)
    shutil.rmtree(corpus)
    clip = Recording("a", AudioPlace(corpus / "a.wav", 0, size))
    with pytest.raises(UserError, match=r"corpus cannot be read any more .*the same command"):
        list(takes(recipe, clip, {}))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that gives EIO")
@pytest.mark.parametrize("size", [None, 100])
def test_a_disk_that_fails_is_no_fault_of_its_clips(tmp_path: Path, size: int | None) -> None:
    clip = Recording("a", AudioPlace(Path("/proc/self/mem"), 0, size))
    with pytest.raises(UserError, match=r"/proc/self/mem: .*; when it is back"):
        list(takes(recipe_of(tmp_path), clip, {}))


@pytest.mark.parametrize("rate", [1, 999, 1_000_001])
def test_a_sample_rate_that_no_recording_has_is_refused(tmp_path: Path, rate: int) -> None:
    data = encoded(np.zeros(2000, np.float32), "WAV", rate)
    assert refused(tmp_path, data) == ("a sample rate that no recording has", f"{rate} Hz")


@pytest.mark.parametrize("frames", [0, 2**36 - 1])
def test_a_length_that_no_recording_has_is_refused(tmp_path: Path, frames: int) -> None:
    data = claiming(encoded(sound(1), "FLAC"), frames)
    with pytest.raises(RefusedError, match="a length that no recording has"):
        taken(tmp_path, data, carried={"npy": b""})


@pytest.mark.parametrize("channels", [1, 8])
def test_no_more_is_held_than_there_is(tmp_path: Path, channels: int) -> None:
    samples = np.stack([sound(1)] * channels, axis=1)
    data = claiming(encoded(samples, "FLAC"), 90 * 3600 * RATE)
    with pytest.raises(RefusedError, match="audio cannot be read"):
        taken(tmp_path, data, carried={"npy": b""})


@pytest.mark.parametrize(
    ("rate", "held"),
    [
        (1000, 1000),
        (44_100, 44_100),
        (65_535, 65_535),
        (65_537, 48_000),
        (96_001, 96_000),
        (192_000, 192_000),
        (655_350, 655_350),
        (655_360, 384_000),
        (768_000, 384_000),
        (1_000_000, 384_000),
    ],
)
def test_flac_holds_any_rate_or_the_largest_usual_one_below(rate: int, held: int) -> None:
    samples = (0.5 * np.sin(2 * np.pi * 50 * np.arange(rate // 10) / rate)).astype(np.float32)
    decoded, found = soundfile.read(io.BytesIO(flac(Audio(samples, rate))))
    assert found == held
    assert len(decoded) == pytest.approx(held / 10, abs=2)
    assert np.abs(decoded).max() == pytest.approx(0.5, abs=0.02)


def test_units_are_fitted_past_a_length_that_cannot_be(tmp_path: Path) -> None:
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", sound(3, seed=number), RATE)
    lines = [{"audio_filepath": f"{number}.wav", "duration": 3.0} for number in range(4)]
    lines[2]["duration"] = 1e30
    listed = tmp_path / "list.jsonl"
    listed.write_text("\n".join(map(json.dumps, lines)))
    config = PackConfig(features=("units.mfcc",), units=UnitsConfig(clusters=4))
    report = pack(listed, tmp_path / "out", config, workers=0)
    assert report is not None
    assert report.rejects == {"the audio ends early": 1}
