from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.pack import duplicates
from shards.pack.config import PackConfig
from shards.pack.duplicates import Rows, alike, repeated
from shards.pack.split import validation_speakers

hashes = st.lists(st.lists(st.sampled_from([0, 1, 2, 3, 2**63, 2**64 - 1]), max_size=9), max_size=5)


@given(parts=hashes, held=st.sampled_from([1, 3, 1000]))
def test_every_hash_that_occurred_before_is_found_with_its_first_place(
    parts: list[list[int]], held: int
) -> None:
    first: dict[int, int] = {}
    expected = {}
    for place, value in enumerate(value for part in parts for value in part):
        if value and value in first:
            expected[place] = first[value]
        first.setdefault(value, place)
    arrays = [np.array(part, dtype=np.uint64) for part in parts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "HELD", held)
        assert dict(repeated(lambda: arrays)) == expected


clips = st.lists(
    st.tuples(st.sampled_from([0, 5, 2**63, 2**64 - 1]), st.integers(0, 20)), max_size=40
)


def rows_of(listed: list[tuple[int, int]], per_part: int) -> Iterator[Rows]:
    for start in range(0, len(listed), per_part):
        part = listed[start : start + per_part]
        yield Rows(
            np.array([words for words, _ in part], dtype=np.uint64),
            np.arange(start, start + len(part)),
            np.array([units / 8 for _, units in part], dtype=np.float32),
        )


def left_out(listed: list[tuple[int, int]], apart: float) -> dict[int, int]:
    """The definition: a clip is left out for the first that stays and is like it."""
    stay: list[int] = []
    out = {}
    for place, (words, units) in enumerate(listed):
        near = (
            other
            for other in stay
            if words and listed[other][0] == words and abs(listed[other][1] - units) / 8 <= apart
        )
        first = next(near, None)
        if first is None:
            stay.append(place)
        else:
            out[place] = first
    return out


@given(
    listed=clips,
    apart=st.sampled_from([0.0, 0.125, 0.3, 99.0]),
    per_part=st.sampled_from([1, 4, 99]),
    held=st.sampled_from([1, 7, 1000]),
)
def test_a_clip_is_left_out_only_for_one_that_stays(
    listed: list[tuple[int, int]], apart: float, per_part: int, held: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "HELD", held)
        found = list(alike(lambda: rows_of(listed, per_part), apart))
    pairs = [
        pair
        for places, firsts in found
        for pair in zip(places.tolist(), firsts.tolist(), strict=True)
    ]
    assert len(dict(pairs)) == len(pairs)
    assert dict(pairs) == left_out(listed, apart)


@pytest.mark.parametrize("different", [1, 2_000_000])
def test_memory_grows_only_with_what_is_found(
    different: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "HELD", 20_000)
    chance = np.random.default_rng(0)
    few = chance.integers(1, 2**64, different, dtype=np.uint64)

    def parts() -> Iterator[np.ndarray]:
        random = np.random.default_rng(1)
        for _ in range(100):
            yield few[random.integers(0, different, 1000)]

    tracemalloc.start()
    found = sum(1 for _ in repeated(parts))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == 99_999 if different == 1 else 0 < found < 20_000
    assert peak < 150 * 20_000


speakers = st.dictionaries(st.text(max_size=3), st.floats(0.1, 1000), max_size=12)


@given(seconds=speakers, share=st.floats(0.001, 0.9), seed=st.integers(0, 9))
def test_validation_takes_whole_speakers_and_leaves_some(
    seconds: dict[str, float], share: float, seed: int
) -> None:
    chosen = validation_speakers(seconds, PackConfig(validation=share, seed=seed))
    named = set(seconds) - {""}
    assert chosen <= named
    if len(named) < 2:
        assert not chosen
        return
    assert 1 <= len(chosen) < len(named)
    taken = sum(seconds[name] for name in chosen)
    total = sum(seconds.values())
    assert taken <= share * total * (1 + 1e-9) or chosen == {
        min(named, key=lambda name: (seconds[name], name))
    }


def test_no_speaker_is_set_apart_unless_asked() -> None:
    assert validation_speakers({"a": 1.0, "b": 1.0}, PackConfig()) == frozenset()
