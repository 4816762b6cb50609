"""Cutting long recordings at their pauses."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from spoken import RATE, TEXT, Samples, spoken, with_noise, word

from shards.quality.cut import CutConfig, pieces
from shards.quality.tape import Piece

WORDS = ["harbour", "bread", "fisherman", "strange", "six", "swans", "frozen", "thunderstorm"]
COARSE = 1000
"""A sample rate at which long recordings are small."""

Spans = list[tuple[int, int]]


def said(pauses: Sequence[float]) -> tuple[Samples, Spans]:
    """Words with a pause of so many seconds after each, and where each word lies."""
    parts: list[Samples] = []
    spans: Spans = []
    at = 0
    for number, pause in enumerate(pauses):
        spoken_word = word(WORDS[number % len(WORDS)])
        spans.append((at, at + len(spoken_word)))
        parts += [spoken_word, np.zeros(round(pause * RATE), np.float32)]
        at += len(spoken_word) + len(parts[-1])
    return np.concatenate(parts), spans


def drawn_pauses(choices: Sequence[float], count: int) -> list[float]:
    return [float(pause) for pause in np.random.default_rng(3).choice(choices, count)]


def cut(samples: Samples, config: CutConfig, rate: int = RATE) -> list[Piece]:
    return list(pieces([samples], rate, config))


def ends(found: list[Piece]) -> Spans:
    return [(piece.start, piece.start + len(piece.samples)) for piece in found]


def seconds(found: list[Piece], rate: int = RATE) -> list[float]:
    return [len(piece.samples) / rate for piece in found]


def words_cut(found: list[Piece], spans: Spans, edge_seconds: float = 0.01) -> int:
    """Words that a cut goes through, farther than that from their edges."""
    edge = round(edge_seconds * RATE)
    cuts = np.array(ends(found)).ravel()
    return sum(bool(((cuts > start + edge) & (cuts < end - edge)).any()) for start, end in spans)


def left_out(found: list[Piece], spans: Spans) -> float:
    """The share of the words' samples that is in no piece."""
    covered = np.zeros(max(end for _, end in spans), np.bool_)
    for start, end in ends(found):
        covered[start:end] = True
    said_samples = np.concatenate([covered[start:end] for start, end in spans])
    return float(1 - said_samples.mean())


def bursts(lengths: Sequence[tuple[float, float]], rate: int = COARSE) -> Samples:
    """Noise and digital silence in turn, of so many seconds."""
    rng = np.random.default_rng(4)
    parts = []
    for sound, silence in lengths:
        parts += [rng.normal(0, 0.1, round(sound * rate)), np.zeros(round(silence * rate))]
    return np.concatenate(parts).astype(np.float32)


# In noise of 10 dB nobody hears where the s of "six" ends.
@pytest.mark.parametrize(("snr", "edge_seconds"), [(None, 0.01), (20, 0.01), (10, 0.12)])
@pytest.mark.parametrize("choices", [(0.3, 0.4, 0.7), (0.05, 0.1, 0.3, 0.6, 1.2), (0.3, 1, 3, 6)])
@pytest.mark.parametrize("longest", [5, 54])
def test_no_word_is_cut_or_lost_where_there_are_pauses(
    choices: Sequence[float], snr: float | None, edge_seconds: float, longest: float
) -> None:
    samples, spans = said(drawn_pauses(choices, 90))
    recording = samples if snr is None else with_noise(samples, snr)
    found = cut(recording, CutConfig(max_seconds=longest))
    assert len(found) > 1
    assert not any(piece.forced for piece in found)
    assert words_cut(found, spans, edge_seconds) == 0
    assert left_out(found, spans) < 0.002
    assert max(seconds(found)) <= longest
    assert min(seconds(found)) >= 0.99


def test_running_speech_is_cut_where_the_speaker_pauses() -> None:
    samples = spoken(" ".join([TEXT] * 6))
    found = cut(samples, CutConfig(max_seconds=14))
    assert len(found) > 4
    assert not any(piece.forced for piece in found)
    for _, end in ends(found)[:-1]:
        assert np.abs(samples[end - RATE // 20 : end + RATE // 20]).max() < 0.003


def test_a_noise_floor_that_changes_is_followed() -> None:
    samples, spans = said([0.5] * 80)
    half = len(samples) // 2
    rng = np.random.default_rng(5)
    floor = np.concatenate((np.full(half, 0.0003), np.full(len(samples) - half, 0.006)))
    found = cut((samples + floor * rng.normal(size=len(samples))).astype(np.float32), CutConfig())
    assert not any(piece.forced for piece in found)
    assert words_cut(found, spans) == 0


def test_an_offset_does_not_hide_pauses() -> None:
    samples, spans = said([0.4] * 60)
    found = cut(samples + np.float32(0.2), CutConfig(max_seconds=10))
    assert words_cut(found, spans) == 0
    assert not any(piece.forced for piece in found)


def test_the_longest_pauses_are_preferred_and_lengths_vary() -> None:
    pauses = drawn_pauses((0.3, 0.35, 0.9), 150)
    samples, spans = said(pauses)
    found = cut(samples, CutConfig(max_seconds=15))
    long_pauses = [spans[i][1] for i, pause in enumerate(pauses) if pause == 0.9]
    after = [max(end for _, end in spans if end <= last) for _, last in ends(found)[:-1]]
    assert sum(end in long_pauses for end in after) / len(after) > 0.9
    lengths = seconds(found)
    assert max(lengths) > 2 * min(lengths[:-1])


def test_long_silences_are_left_out_but_for_what_is_kept() -> None:
    recording = bursts([(3, 10), (4, 2.5), (5, 30)])
    found = cut(np.concatenate((np.zeros(5000, np.float32), recording)), CutConfig(), COARSE)
    # The detector smooths over 50 ms, so ends may lie 20 ms out.
    assert seconds(found, COARSE) == pytest.approx([3.4, 4.4, 5.4], abs=0.05)
    assert [piece.start / COARSE for piece in found] == pytest.approx([4.8, 17.8, 24.3], abs=0.03)
    assert not any(piece.forced for piece in found)


def test_pieces_are_the_recordings_own_samples() -> None:
    recording = bursts([(3, 0.5), (40, 0.3), (30, 4), (2, 1)])
    for piece in cut(recording, CutConfig(max_seconds=20), COARSE):
        place = slice(piece.start, piece.start + len(piece.samples))
        assert np.array_equal(piece.samples, recording[place])


def test_a_lone_short_word_keeps_more_of_the_silence_around_it() -> None:
    found = cut(bursts([(0.3, 5), (0.3, 5), (0.3, 5)]), CutConfig(), COARSE)
    assert seconds(found, COARSE) == [1.0, 1.0, 1.0]
    # In the middle, but at the start of the recording.
    starts = [piece.start / COARSE for piece in found]
    assert starts == pytest.approx([0, 5.3 - 0.35, 10.6 - 0.35], abs=0.03)


def test_a_recording_too_short_for_a_piece_comes_with_its_true_length() -> None:
    found = cut(bursts([(0.4, 0)]), CutConfig(), COARSE)
    assert seconds(found, COARSE) == [0.4]


def test_a_short_rest_is_avoided_where_another_pause_is_good() -> None:
    found = cut(bursts([(4, 0.3), (5, 0.5), (0.6, 3)]), CutConfig(max_seconds=9.5), COARSE)
    assert seconds(found, COARSE) == pytest.approx([4.15, 6.45], abs=0.05)


def test_a_short_piece_is_avoided_where_another_pause_is_good() -> None:
    found = cut(bursts([(0.5, 0.9), (4, 0.3), (6, 3)]), CutConfig(max_seconds=8), COARSE)
    assert seconds(found, COARSE) == pytest.approx([5.55, 6.35], abs=0.05)


def test_noise_between_speeches_is_left_out_once_speech_was_heard() -> None:
    samples, _ = said([0.4] * 40)
    recording = np.concatenate((samples, np.zeros(100 * RATE, np.float32), samples))
    noise = np.random.default_rng(9).normal(0, 0.003, len(recording))
    found = cut((recording + noise).astype(np.float32), CutConfig())
    assert sum(seconds(found)) == pytest.approx(2 * len(samples) / RATE, rel=0.05)


@pytest.mark.parametrize("sound", ["tone", "noise", "vowel"])
def test_three_minutes_without_a_pause_are_forced_and_lose_nothing(sound: str) -> None:
    time = np.arange(180 * 8000) / 8000
    recording = {
        "tone": 0.3 * np.sin(2 * np.pi * 220 * time),
        "noise": np.random.default_rng(6).normal(0, 0.05, len(time)),
        "vowel": np.sin(2 * np.pi * 120 * time) * (0.3 + 0.1 * np.sin(2 * np.pi * 4 * time)),
    }[sound].astype(np.float32)
    found = cut(recording, CutConfig(), 8000)
    assert all(piece.forced for piece in found)
    assert np.array_equal(np.concatenate([piece.samples for piece in found]), recording)
    assert all(1 <= length <= 54 for length in seconds(found, 8000))
    assert all(length >= 27 for length in seconds(found, 8000)[:-1])


def test_without_a_pause_the_quietest_point_is_taken() -> None:
    time = np.arange(60 * 8000) / 8000
    recording = 0.2 * np.sin(2 * np.pi * 220 * time)
    recording[41 * 8000 : 41 * 8000 + 800] *= 0.3
    first, second = cut(recording.astype(np.float32), CutConfig(), 8000)
    assert first.forced
    assert second.forced
    assert len(first.samples) / 8000 == pytest.approx(41.05, abs=0.15)


def test_only_the_pieces_beside_a_forced_cut_are_forced() -> None:
    found = cut(bursts([(10, 3), (12, 3), (10, 3)]), CutConfig(max_seconds=11), COARSE)
    assert [piece.forced for piece in found] == [False, True, True, False]


@pytest.mark.parametrize("level", [0.0, 1e-5, 1e-4])
def test_silence_alone_has_no_pieces(level: float) -> None:
    samples = np.random.default_rng(7).normal(0, level, 200 * COARSE).astype(np.float32)
    assert cut(samples, CutConfig(), COARSE) == []


@pytest.mark.parametrize("blocks", [[], [np.empty(0, np.float32)]])
def test_an_empty_recording_has_no_pieces(blocks: list[Samples]) -> None:
    assert list(pieces(blocks, 16_000, CutConfig())) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_broken_samples_count_as_sound_and_harm_nothing_else(bad: float) -> None:
    recording = bursts([(5, 4), (5, 4), (5, 4)])
    recording[15_000] = bad
    found = cut(recording, CutConfig(), COARSE)
    assert seconds(found, COARSE)[0] == pytest.approx(5.2, abs=0.05)
    assert any(bad in piece.samples or np.isnan(piece.samples).any() for piece in found)
    assert found[-1].start / COARSE == pytest.approx(17.8, abs=0.05)


@pytest.mark.parametrize("rate", [1000, 8000, 11_025, 44_100, 192_000])
def test_any_sample_rate_is_cut(rate: int) -> None:
    recording = bursts([(4, 3), (4, 3)], rate)
    found = cut(recording, CutConfig(), rate)
    assert sum(seconds(found, rate)) >= 7.9
    assert all(length <= 54 for length in seconds(found, rate))


LENGTHS = st.lists(
    st.tuples(
        st.floats(0.01, 20).map(lambda s: round(s, 2)), st.floats(0, 5).map(lambda s: round(s, 2))
    ),
    max_size=12,
)


def in_blocks(samples: Samples, sizes: Sequence[int]) -> Iterator[Samples]:
    at = 0
    for size in sizes:
        yield samples[at : at + size]
        at += size
    yield samples[at:]


@settings(deadline=None)
@given(LENGTHS, st.lists(st.integers(0, 30_000), max_size=12), st.sampled_from([2.0, 7.0, 54.0]))
def test_pieces_do_not_depend_on_the_blocks_and_keep_their_promises(
    lengths: list[tuple[float, float]], sizes: list[int], longest: float
) -> None:
    recording = bursts(lengths) if lengths else np.empty(0, np.float32)
    config = CutConfig(max_seconds=longest, min_seconds=0.5)
    found = cut(recording, config, COARSE)
    again = list(pieces(in_blocks(recording, sizes), COARSE, config))
    assert [(p.start, p.forced, p.samples.tobytes()) for p in again] == [
        (p.start, p.forced, p.samples.tobytes()) for p in found
    ]
    flat = [sample for span in ends(found) for sample in span]
    assert flat == sorted(flat)
    assert all(0 < length <= longest for length in seconds(found, COARSE))
    outside = np.ones(len(recording), np.bool_)
    for start, end in ends(found):
        outside[start:end] = False
    assert not recording[outside].any()


def test_a_long_recording_takes_little_memory() -> None:
    def blocks() -> Iterator[Samples]:
        block = bursts([(1.5, 0.4), (7, 0.6), (0.4, 0.1)], 8000)
        for _ in range(360):
            yield block

    tracemalloc.start()
    total = sum(len(piece.samples) for piece in pieces(blocks(), 8000, CutConfig()))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total > 3000 * 8000
    assert most < 4 * (4 * 54 * 8000)


def test_hours_of_silence_are_not_held() -> None:
    def blocks() -> Iterator[Samples]:
        for _ in range(720):
            yield np.zeros(5 * 8000, np.float32)

    tracemalloc.start()
    assert list(pieces(blocks(), 8000, CutConfig())) == []
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 * (54 * 8000)


def test_limits_that_leave_no_room_are_refused() -> None:
    with pytest.raises(ValidationError, match="max_seconds must be at least twice min_seconds"):
        CutConfig(max_seconds=1.5, min_seconds=1)
