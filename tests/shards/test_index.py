from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards import columns, index
from shards.columns import Column, IndexFile
from shards.index import Index


@given(
    st.sampled_from([np.int8, np.int16, np.float32, np.int64, np.uint64]),
    st.integers(0, 9).map(lambda n: 8 * n + 4088 * (n % 3)),
    st.lists(st.integers(0, 9_999), max_size=60),
)
@settings(deadline=None)
def test_a_column_that_is_read_gives_what_its_map_gives(
    tmp_path_factory: pytest.TempPathFactory, kind: type, start: int, rows: list[int]
) -> None:
    numbers = np.random.default_rng(start).integers(0, 100, 10_000).astype(kind)
    path = tmp_path_factory.mktemp("column") / "numbers"
    path.write_bytes(bytes(start) + numbers.tobytes())
    column = Column(numbers, IndexFile(path), start)
    assert column.view.nbytes <= columns.MAPPED_BYTES
    mapped = column.take(np.array(rows, dtype=np.int64)), column.slice(17, 4321)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "MAPPED_BYTES", 0)
        read = column.take(np.array(rows, dtype=np.int64)), column.slice(17, 4321)
    for ours, theirs in zip(read, mapped, strict=True):
        assert np.array_equal(ours, theirs) and ours.dtype == theirs.dtype


def test_keys_and_members_are_the_same_read_and_mapped(
    token_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(0).permutation(120)
    mapped = Index.open(token_shards)
    keys, ends = mapped.keys(rows), mapped.members.starts.take(rows + 1)
    monkeypatch.setattr(columns, "MAPPED_BYTES", 0)
    monkeypatch.setattr(index, "MAPPED_BYTES", 0)
    read = Index.open(token_shards)
    assert read.keys(rows) == keys == [mapped.key(int(row)) for row in rows]
    assert read.members.starts.take(rows + 1).tolist() == ends.tolist()


def test_other_programs_can_read_an_index(token_shards: Path) -> None:
    table = pa.ipc.open_file(token_shards / "index.arrow").read_all()
    assert {"key", "shard", "offset", "size", "members", "seconds", "speaker"} <= set(
        table.column_names
    )
    first = table.slice(0, 1).to_pylist()[0]
    assert first["shard"] == "shard-000000-00.tar"
    assert {member["name"] for member in first["members"]} >= {"phonemes.npy", "semantic.npy"}
