from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.pack import duplicates
from shards.pack.config import PackConfig
from shards.pack.duplicates import repeated, with_length
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


@given(
    first=st.floats(0.1, 60), gap=st.floats(0, 0.2), same=st.booleans(), step=st.floats(0.01, 0.1)
)
def test_the_same_words_are_near_when_their_lengths_are(
    first: float, gap: float, same: bool, step: float
) -> None:
    words = np.array([7, 7 if same else 9], dtype=np.uint64)
    seconds = np.array([first, first + gap], dtype=np.float32)
    apart = float(seconds[1].astype(np.float64) - seconds[0].astype(np.float64))
    near = any(
        len(set(with_length(words, seconds, step, shift).tolist())) == 1 for shift in (0.0, 0.5)
    )
    if not same or apart > step:
        assert not near
    elif apart < step / 2:
        assert near


def test_clips_without_words_are_near_no_other() -> None:
    assert not with_length(np.zeros(3, np.uint64), np.ones(3, np.float32), 0.05, 0.0).any()


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
