from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.audio import AudioPlace
from shards.pack import listing as rooms
from shards.pack.keys import key_of, piece_key, piece_name
from shards.pack.layout import CHUNK_ROWS, Layout
from shards.pack.listing import Listing, write_listing
from shards.sources.source import Recording, Reject


def recordings(count: int, per_file: int = 1) -> list[Recording]:
    return [
        Recording(f"clip{n}", AudioPlace(Path(f"/x/{n // per_file}.wav")), seconds=5.0)
        for n in range(count)
    ]


def test_what_was_listed_is_read_again_by_row(tmp_path: Path) -> None:
    found = [
        Recording(
            "名前/a.b",
            AudioPlace(Path("/corpus/a.tar"), 512, 99),
            1.5,
            2.25,
            "a\ttext\x00 with\nall",
            "sp",
            "EN",
            {"word2ph": [1, 2]},
            {"dnsmos": 3.5},
            {"tokens": "1 2"},
        ),
        Reject("broken", "a reason", "1", "/f"),
        Recording("no audio", seconds=1.0),
    ]
    write_listing(tmp_path, found, "zh")
    listing = Listing(tmp_path)
    assert listing.row(0) == found[0]
    assert listing.row(1) == found[1]
    assert listing.row(2) == Recording("no audio", seconds=1.0, language="zh")


def test_a_name_that_comes_again_is_a_reject_however_far_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "ROWS_PER_BATCH", 4)
    monkeypatch.setattr(rooms, "HASHES_PER_PART", 3)
    found = [*recordings(20), recordings(20)[3], Reject("clip4", "bad")]
    write_listing(tmp_path, found, "")
    rows = [Listing(tmp_path).row(n) for n in range(22)]
    assert rows[20] == Reject("clip3", "listed twice", "", "/x/3.wav")
    assert rows[21] == Reject("clip4", "bad")
    assert all(isinstance(row, Recording) for row in rows[:20])


def test_a_name_that_is_no_unicode_is_listed_readably(tmp_path: Path) -> None:
    write_listing(tmp_path, [Reject("bad\udcff", "name is not UTF-8")], "")
    assert Listing(tmp_path).row(0) == Reject("bad\\udcff", "name is not UTF-8")


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 300), per_file=st.integers(1, 70), blocks=st.integers(1, 9))
def test_every_row_is_in_exactly_one_chunk_and_files_are_not_torn(
    count: int, per_file: int, blocks: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("listing")
    write_listing(folder, recordings(count, per_file), "")
    layout = Layout.of(Listing(folder), 5.0 * count / blocks)
    chunks = [chunk for block in range(layout.blocks) for chunk in layout.chunks(block)]
    assert len({chunk.name for chunk in chunks}) == len(chunks)
    held = [list(layout.rows(chunk)) for chunk in chunks]
    assert Counter(row for rows in held for row in rows) == Counter(range(count))
    if per_file <= rooms.GROUP_ROWS:
        chunk_of = {row: n for n, rows in enumerate(held) for row in rows}
        assert all(chunk_of[row] == chunk_of[row - row % per_file] for row in range(count))


def test_blocks_are_fair_samples_of_a_sorted_corpus(tmp_path: Path) -> None:
    write_listing(tmp_path, recordings(1000), "")
    layout = Layout.of(Listing(tmp_path), 1000.0)
    assert layout.blocks == 5
    for block in range(5):
        rows = [row for chunk in layout.chunks(block) for row in layout.rows(chunk)]
        assert len(rows) == 200
        assert Counter(row // 250 for row in rows) == {0: 50, 1: 50, 2: 50, 3: 50}


def blocks_of(folder: Path, lengths: list[float], block_seconds: float) -> int:
    listed = [Recording(f"clip{n}", seconds=seconds) for n, seconds in enumerate(lengths)]
    write_listing(folder, listed, "")
    return Layout.of(Listing(folder), block_seconds).blocks


@pytest.mark.parametrize("wrong", [1e5, 2e9, 1e30])
def test_a_length_that_is_wrong_does_not_tear_the_blocks(tmp_path: Path, wrong: float) -> None:
    right = blocks_of(tmp_path, [5.0] * 200, 100.0)
    assert right == 10
    assert blocks_of(tmp_path, [*[5.0] * 100, wrong, *[5.0] * 99], 100.0) - right in (0, 1)


def test_a_header_that_is_damaged_does_not_tear_the_blocks(tmp_path: Path) -> None:
    for number in range(60):
        soundfile.write(tmp_path / f"{number:02d}.flac", np.zeros(8000), 8000)
    damaged = bytearray((tmp_path / "30.flac").read_bytes())
    damaged[22:26] = b"\x7f\xff\xff\xff"
    (tmp_path / "30.flac").write_bytes(damaged)
    assert soundfile.info(tmp_path / "30.flac").duration > 1e5
    found = [Recording(path.name, AudioPlace(path)) for path in sorted(tmp_path.glob("*.flac"))]
    write_listing(tmp_path, found, "")
    assert Layout.of(Listing(tmp_path), 20.0).blocks in (3, 4)


@pytest.mark.parametrize("lengths", [[2e9], [1e308] * 300, [5e-324] * 300])
def test_lengths_that_cannot_be_make_a_layout_all_the_same(
    tmp_path: Path, lengths: list[float]
) -> None:
    assert 1 <= blocks_of(tmp_path, lengths, 1000.0) <= len(lengths)


@pytest.mark.parametrize(
    "listed",
    [
        pytest.param(lambda n: Recording(f"{n}", AudioPlace(Path(f"/gone/{n}"))), id="unreadable"),
        pytest.param(lambda n: Reject(f"{n}", "bad"), id="rejects"),
        pytest.param(lambda n: Recording(f"{n}", seconds=0.01), id="short"),
    ],
)
def test_no_chunk_has_too_many_rows(
    tmp_path: Path, listed: Callable[[int], Recording | Reject]
) -> None:
    write_listing(tmp_path, map(listed, range(9000)), "")
    layout = Layout.of(Listing(tmp_path), 36000.0)
    chunks = [chunk for block in range(layout.blocks) for chunk in layout.chunks(block)]
    rows = [len(list(layout.rows(chunk))) for chunk in chunks]
    assert sum(rows) == 9000
    assert max(rows) < CHUNK_ROWS + rooms.GROUP_ROWS
    assert all(chunk.seconds > 0 for chunk in chunks)


def test_the_fingerprint_is_of_what_is_listed_and_not_of_where_it_lies(tmp_path: Path) -> None:
    def listed(recording: Recording) -> str:
        return write_listing(tmp_path, [recording], "")

    first = listed(Recording("a", AudioPlace(Path("/x/a.wav")), text="t"))
    assert listed(Recording("a", AudioPlace(Path("/y/a.wav")), text="t")) == first
    assert listed(Recording("a", AudioPlace(Path("/x/a.wav")), text="u")) != first


@given(names=st.sets(st.text(min_size=1, max_size=8), min_size=2, max_size=4))
def test_different_names_have_different_keys_that_webdataset_keeps_whole(names: set[str]) -> None:
    keys = {key_of(name) for name in names}
    assert len(keys) == len(names)
    for key in keys:
        assert "." not in key and not key.startswith("/") and key
        assert not any(ord(character) < 32 for character in key)


def test_keys_stay_readable() -> None:
    assert key_of("speaker/clip 01_名前") == "speaker/clip 01_名前"
    assert key_of("../a.b.wav") == "%2E%2E/a%2Eb%2Ewav"
    assert key_of("/a") == "%2F/a"
    assert piece_name("talk", 61.2345) == "talk@000061234"
    assert piece_key("a.b", piece_name("a.b", 61.2345)) == "a%2Eb@000061234"
    assert key_of("talk@000061234") == "talk%40000061234"
    assert key_of("me@home") == "me@home"
