from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.index import ClipRow, Index, ShardFacts
from shards.index_writer import rows_table
from shards.pack import repeats
from shards.pack.config import DuplicatesConfig, PackConfig
from shards.pack.finish import PackReport, write_dataset
from shards.pack.receipt import FILE, NAME, SOUND, WORDS, BlockDone
from shards.pack.repeats import find_repeats
from shards.sources.source import Reject


@dataclasses.dataclass(frozen=True)
class Told:
    """What a test says of a clip; ``sound`` and ``words`` are hashes."""

    sound: int
    words: int = 0
    seconds: float = 1.0
    speaker: str = "s"


NONE: Mapping[str, list[str | None]] = {}


def block(
    out: Path, number: int, clips: Sequence[Told], texts: Mapping[str, list[str | None]] = NONE
) -> BlockDone:
    """A finished block of one shard whose clips are called 0/0, 0/1 and so on."""
    shard = f"{number}.tar"
    rows = [
        ClipRow(
            f"{number}/{n}", shard, 0, 1, (), clip.seconds, clip.speaker, "en", "c",
            {"phonemes": n}, {}, {"snr_db": 1.0},
        )
        for n, clip in enumerate(clips)
    ]  # fmt: skip
    table = rows_table(rows)
    for name, values in ((SOUND, "sound"), (WORDS, "words")):
        hashes = pa.array([getattr(clip, values) for clip in clips], type=pa.uint64())
        table = table.append_column(name, hashes)
    for name, own in texts.items():
        table = table.append_column(name, pa.array(own, type=pa.string()))
    (out / ".pack").mkdir(parents=True, exist_ok=True)
    rejects = [Reject(f"bad{number}", "empty")]
    facts = [ShardFacts(shard, len(rows), 1, 0)] if rows else []
    done = BlockDone(out / ".pack", number)
    done.draft(table, facts, rejects, {"phonemes": number})
    done.put_down()
    return done


def written(out: Path, blocks: Sequence[BlockDone], **config: object) -> PackReport:
    return write_dataset(out, blocks, PackConfig.model_validate(config), {"features": {}})


def duplicates(out: Path) -> list[tuple[str, str, str, str]]:
    found = pyarrow.parquet.read_table(out / "rejects.parquet").to_pylist()
    return [tuple(one.values()) for one in found if one["reason"] != "empty"]


def keys(out: Path) -> list[str]:
    index = Index.open(out)
    return [index.key(row) for row in range(len(index))]


NEAR = {"near": "reject"}


@pytest.mark.parametrize("together", [1, 9, 1000])
def test_near_duplicates_do_not_chain(
    together: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "LOOKED_UP", together)
    steps = [Told(n + 1, 7, 2 + 0.02 * n) for n in range(30)]
    blocks = [block(tmp_path, n, steps[n * 10 : n * 10 + 10]) for n in range(3)]
    report = written(tmp_path, blocks, duplicates=NEAR)
    assert report.clips == 10 and report.rejects.total() == 23
    lost = duplicates(tmp_path)
    assert {stays for _, _, stays, _ in lost} == set(keys(tmp_path))
    assert [(name, stays) for name, _, stays, _ in lost[6:9]] == [
        ("1/0", "0/9"), ("1/1", "0/9"), ("1/3", "1/2"),
    ]  # fmt: skip
    assert keys(tmp_path)[:4] == ["0/0", "0/3", "0/6", "0/9"]


def test_an_exact_duplicate_of_a_near_one_names_what_stays(tmp_path: Path) -> None:
    clips = [Told(1, 7, 2.0), Told(2, 7, 2.01), Told(2, 7, 2.01), Told(1, 7, 2.0), Told(4, 9, 2.0)]
    written(tmp_path, [block(tmp_path, 0, clips)], duplicates=NEAR)
    nearly = "the same words, speaker and length as another clip"
    assert duplicates(tmp_path) == [
        ("0/1", nearly, "0/0", "0.tar"),
        ("0/2", nearly, "0/0", "0.tar"),
        ("0/3", "the same audio as another clip", "0/0", "0.tar"),
    ]


clips = st.builds(
    Told, st.integers(0, 6), st.integers(0, 2), st.sampled_from([1.0, 1.03, 1.06, 1.09, 2.0])
)


@given(parts=st.lists(st.lists(clips, max_size=8), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_whatever_is_left_out_is_like_a_clip_that_stays(
    parts: list[list[Told]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("out")
    blocks = [block(out, number, part) for number, part in enumerate(parts)]
    found = find_repeats(blocks, DuplicatesConfig(near="reject"))
    told = [clip for part in parts for clip in part]
    stay = np.concatenate([found.kept(number) for number in range(len(blocks))])
    assert set(np.flatnonzero(~stay)) == set(found.places)
    for place, first in zip(found.places, found.firsts, strict=True):
        assert first < place and stay[first]
    counted = find_repeats(blocks, DuplicatesConfig(near="keep"))
    assert counted.near + len(counted.places) == len(found.places)
    rest = [told[place] for place in np.flatnonzero(stay)]
    sounds = [clip.sound for clip in rest if clip.sound]
    assert len(set(sounds)) == len(sounds)
    lengths = [(clip.words, clip.seconds) for clip in rest if clip.words]
    for n, (words, seconds) in enumerate(lengths):
        assert all(w != words or abs(s - seconds) > 0.05 for w, s in lengths[:n])


def test_duplicates_are_called_what_the_corpus_calls_them(tmp_path: Path) -> None:
    texts = {NAME: ["a.b", "c.d", None], FILE: ["/in/a.wav", "/in/c.wav", ""]}
    first = block(tmp_path, 0, [Told(1), Told(1), Told(1)], texts)
    other = block(tmp_path, 1, [Told(1), Told(2)])
    written(tmp_path, [first, other])
    same = "the same audio as another clip"
    assert duplicates(tmp_path) == [
        ("c.d", same, "0/0", "/in/c.wav"),
        ("0/2", same, "0/0", "0.tar"),
        ("1/0", same, "0/0", "1.tar"),
    ]


def test_the_index_has_no_column_that_only_packing_needs(tmp_path: Path) -> None:
    first = block(tmp_path, 0, [Told(1)], {NAME: ["a"], "#more": ["b"]})
    written(tmp_path, [first, block(tmp_path, 1, [Told(2)])])
    index = Index.open(tmp_path)
    assert not [name for name in index.table.column_names if name.startswith("#")]
    assert index.about["lengths"] == ["phonemes"] and index.figures == ("snr_db",)
    assert index.about["largest"] == {"phonemes": 1}


def test_validation_is_a_share_of_the_clips_that_stay(tmp_path: Path) -> None:
    twice = [Told(9, 0, 100.0, "loud")] * 50
    gone = [Told(9, 0, 100.0, "gone")]
    rest = [Told(20 + n, 0, 10.0, f"s{n % 10}") for n in range(90)]
    blocks = [block(tmp_path, n, part) for n, part in enumerate([twice, gone, rest])]
    report = written(tmp_path, blocks, validation=0.2)
    index = Index.open(tmp_path)
    split = np.array(index.table.column("split").to_pylist())
    assert index.seconds.sum() == pytest.approx(1000)
    assert 100 <= index.seconds[split == "validation"].sum() <= 200
    assert "gone" not in report.validation


def test_a_shard_without_clips_that_stay_is_not_in_the_index(tmp_path: Path) -> None:
    parts = [[Told(1), Told(2)], [Told(2), Told(1)], [], [Told(3)]]
    blocks = [block(tmp_path, n, part) for n, part in enumerate(parts)]
    report = written(tmp_path, blocks)
    assert (report.clips, report.shards) == (3, 2)
    assert Index.open(tmp_path).shards.to_pylist()[1]["name"] == "3.tar"
    assert report.rejects == {"the same audio as another clip": 2, "empty": 4}
