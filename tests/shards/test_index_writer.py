from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.index import ClipRow, Index, Member, ShardFacts
from shards.index_writer import IndexWriter, largest_values, rows_table

words = st.text(st.characters(blacklist_categories=("Cs",)), max_size=6)
numbers = st.integers(0, 2**31 - 1)


@st.composite
def blocks(draw: st.DrawFn) -> list[list[ClipRow]]:
    counts = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    return [
        [
            ClipRow(
                key=draw(words),
                shard=f"{block}.tar",
                offset=draw(numbers),
                size=draw(numbers),
                members=tuple(
                    Member(draw(words), draw(numbers), draw(numbers), draw(numbers))
                    for _ in range(draw(st.integers(0, 3)))
                ),
                seconds=draw(st.integers(0, 1000)) / 8,
                speaker=draw(words),
                language=draw(words),
                source="s",
                lengths={n: draw(numbers) for n in draw(st.sets(st.sampled_from("ab")))},
                largest={},
                figures={n: draw(st.integers(-9, 9)) for n in draw(st.sets(st.sampled_from("xy")))},
            )
            for _ in range(count)
        ]
        for block, count in enumerate(counts)
    ]


def written(folder: Path, parts: list[list[ClipRow]]) -> Path:
    writer = IndexWriter(folder, lengths=["a", "b"], figures=["x", "y"])
    for part in parts:
        shards = {row.shard for row in part}
        writer.add(
            rows_table(part),
            [ShardFacts(s, sum(r.shard == s for r in part), 1, 2) for s in sorted(shards)],
        )
    writer.finish(folder, {"largest": largest_values(row for part in parts for row in part)})
    return folder


@settings(max_examples=40, deadline=None)
@given(parts=blocks())
def test_what_was_added_block_by_block_is_what_is_read(
    parts: list[list[ClipRow]], tmp_path_factory
) -> None:
    rows = [row for part in parts for row in part]
    if not rows:
        return
    folder = written(tmp_path_factory.mktemp("index"), parts)
    index = Index.open(folder)
    read = index.table.to_pylist()
    for row, got in zip(rows, read, strict=True):
        assert got["members"] == [vars(member) for member in row.members]
        for name in ("key", "shard", "offset", "size", "seconds", "speaker", "language"):
            assert got[name] == getattr(row, name)
        assert {n: got[n] for n in "ab"} == {n: row.lengths.get(n, 0) for n in "ab"}
        for name in "xy":
            np.testing.assert_equal(got[name], float(row.figures.get(name, np.nan)))
    assert index.figures == ("x", "y")
    assert index.shards["rows"].to_pylist() == [len(part) for part in parts if part]
    assert [path.name for path in folder.iterdir()] == ["index.arrow"]


@settings(max_examples=20, deadline=None)
@given(parts=blocks())
def test_the_digest_does_not_depend_on_how_blocks_are_cut(
    parts: list[list[ClipRow]], tmp_path_factory
) -> None:
    rows = [row for part in parts for row in part]
    if not rows:
        return
    whole = Index.open(written(tmp_path_factory.mktemp("whole"), [rows]))
    cut = Index.open(written(tmp_path_factory.mktemp("cut"), parts))
    assert whole.digest == cut.digest


def test_the_digest_tells_corpora_apart(tmp_path: Path) -> None:
    def digest(name: str, **other: object) -> str:
        facts = {
            "key": "k", "shard": "s", "offset": 0, "size": 1, "members": (Member("a", 0, 1, 7),),
            "seconds": 1.0, "speaker": "", "language": "", "source": "", "lengths": {"a": 1},
            "largest": {},
        }  # fmt: skip
        (tmp_path / name).mkdir()
        row = ClipRow(**{**facts, **other})
        return Index.open(written(tmp_path / name, [[row]])).digest

    first = digest("first")
    assert digest("same") == first
    assert digest("speaker", speaker="x") == first
    for name, other in {
        "key": {"key": "l"},
        "seconds": {"seconds": 2.0},
        "length": {"lengths": {"a": 2}},
        "content": {"members": (Member("a", 0, 1, 8),)},
        "shard": {"shard": "t"},
    }.items():
        assert digest(name, **other) != first
