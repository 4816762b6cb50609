"""Checkpoints on a server that speaks S3, in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from store_servers import s3_bucket
from test_checkpoint import KEYS, ThreadRanks, cut, full, state_at, together
from test_checkpoint_command import command
from test_weights_export import command as segue

from pretrain.checkpoint.keep import CheckpointConfig
from pretrain.checkpoint.location import store_at
from pretrain.checkpoint.manifest import MANIFEST, MARKER, DamageError
from pretrain.checkpoint.remote import RemoteStore
from pretrain.checkpoint.restore import newest_valid, restore
from pretrain.checkpoint.saver import Saver
from pretrain.checkpoint.store import read_manifest
from pretrain.weights.read import read_weights
from shards.errors import UserError
from shards.stores.remote import open_location


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_bucket("runs") as url:
        yield url


@pytest.fixture
def store(s3: str, tmp_path: Path) -> RemoteStore:
    """A folder of its own on the server."""
    found = store_at(f"{s3}/{tmp_path.name}", tmp_path / "upload")
    assert isinstance(found, RemoteStore)
    return found


def save(store: RemoteStore, *steps: int, world_size: int = 2, **keep: Any) -> None:
    def one(ranks: ThreadRanks) -> None:
        mine = list(cut(full(1), ranks.rank, world_size))
        saver = Saver(store, ranks, CheckpointConfig(**keep), mine, lambda _: None)
        for step in steps:
            saver.save(mine, state_at(step))
        saver.finish()
        assert saver.failure == ""

    together(world_size, one)


def newest(store: RemoteStore, warnings: list[str] | None = None) -> str | None:
    said: list[str] = [] if warnings is None else warnings
    found = together(1, lambda ranks: newest_valid(store, ranks, said.append))[0]
    return found and str(found.name)


def test_what_is_saved_there_is_restored_on_other_ranks(store: RemoteStore, tmp_path: Path) -> None:
    save(store, 3)
    name = state_at(3).name
    assert newest(store) == name
    restored = {n: {k: torch.zeros_like(t) for k, t in s.items()} for n, s in full(0).items()}
    for rank in range(3):
        restore(store, name, read_manifest(store, name), cut(restored, rank, 3))
    for parameter, states in full(1).items():
        for key in KEYS:
            assert torch.equal(restored[parameter][key], states[key])
    assert not list((tmp_path / "upload").rglob("*.safetensors"))


def test_a_rank_asks_for_the_bytes_that_it_needs(
    store: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(store, 3)
    manifest = read_manifest(store, state_at(3).name)
    asked: list[int] = []
    read = store.read_ranges

    def counted(name: str, ranges: Any) -> None:
        asked.extend(len(one.into) for one in ranges)
        read(name, ranges)

    monkeypatch.setattr(store, "read_ranges", counted)
    mine = list(cut(full(0), 0, 4))
    restore(store, state_at(3).name, manifest, mine)
    assert sum(asked) == sum(4 * len(KEYS) * fragment.size for fragment in mine)


def test_older_ones_are_removed_and_unmarked_ones_swept(store: RemoteStore) -> None:
    save(store, 2, 4, 6, keep_last=2)
    assert store.names() == [state_at(step).name for step in (6, 4)]
    store.write(state_at(8).name, "rank_00000_of_00001.safetensors", [memoryview(b"half")])
    warnings: list[str] = []
    assert newest(store, warnings) == state_at(6).name
    assert f"{MARKER} is missing" in warnings[0]
    save(store, 10, keep_last=2)
    assert store.names() == [state_at(step).name for step in (10, 6)]


def test_a_part_that_is_not_whole_or_not_there_is_named(store: RemoteStore) -> None:
    save(store, 2, 4)
    files, root = open_location(store.url)
    broken = f"{root}/{state_at(4).name}/rank_00001_of_00002.safetensors"
    files.pipe_file(broken, files.cat_file(broken)[:-7])
    warnings: list[str] = []
    assert newest(store, warnings) == state_at(2).name
    assert "rank_00001_of_00002.safetensors has" in warnings[0]
    files.rm_file(f"{root}/{state_at(2).name}/{MANIFEST}")
    with pytest.raises(DamageError, match=r"manifest\.json is missing"):
        read_manifest(store, state_at(2).name)


def test_a_server_that_is_gone_is_a_warning(
    store: RemoteStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = RemoteStore("http://127.0.0.1:9/runs", tmp_path / "upload")
    said: list[str] = []

    def one(ranks: ThreadRanks) -> str:
        mine = list(cut(full(1), 0, 1))
        saver = Saver(store, ranks, CheckpointConfig(), mine, said.append)
        monkeypatch.setattr(saver, "_store", gone)
        saver.save(mine, state_at(1))
        saver.finish()
        return saver.failure

    assert together(1, one)[0]
    assert "step 1 could not be written" in said[0]


def test_a_place_that_cannot_be_written_or_read_ends_the_run_at_its_start(tmp_path: Path) -> None:
    def begin(store: RemoteStore, ranks: ThreadRanks) -> None:
        Saver(store, ranks, CheckpointConfig(), list(cut(full(1), 0, 1)), lambda _: None)

    for url, why in (("s3://not-made/runs", "bucket"), ("http://127.0.0.1:9/runs", "127.0.0.1")):
        store = RemoteStore(url, tmp_path / "upload")
        with pytest.raises(UserError, match=f"{url}: .*{why}.*; check the address"):
            together(1, lambda ranks, store=store: begin(store, ranks))  # type: ignore[misc]
    gone = RemoteStore("http://127.0.0.1:9/runs", tmp_path / "upload")
    with pytest.raises(UserError, match="check the address"):
        newest(gone)


def test_an_unknown_protocol_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^tape://x: fsspec knows no protocol"):
        store_at("tape://x")
    assert not isinstance(store_at(str(tmp_path)), RemoteStore)


def test_the_commands_take_urls_and_runs_that_save_behind_one(
    store: RemoteStore, tmp_path: Path
) -> None:
    save(store, 2, 4)
    run = tmp_path / store.url.rpartition("/")[2]
    run.mkdir()
    (run / "config.yaml").write_text(f"checkpoint:\n  dir: {store.url.rpartition('/')[0]}\n")
    for place in (store.url, run):
        assert state_at(4).name in command("ls", place)
        assert store.place(state_at(4).name) in command("show", place)
    assert "all as it was saved" in command("verify", store.place(state_at(2).name))
    assert "3 tensors of step 4" in segue("export", run, tmp_path / "out.safetensors")
    merged = load_file(tmp_path / "out.safetensors")
    assert {*merged} == {*read_weights(store.url).tensors} == {*read_weights(str(run)).tensors}
    for name, values in merged.items():
        assert torch.equal(values.flatten(), full(1)[name]["master"])
    with pytest.raises(UserError, match=r"is not a committed checkpoint \(COMMITTED is missing"):
        command("show", store.place(state_at(3).name))
