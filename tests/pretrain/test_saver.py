"""Saving beside training: what the loop waits for, and what happens when the disk is full."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Event

import pytest
import torch
from test_checkpoint import (
    KEEP_ALL,
    ThreadRanks,
    cut,
    full,
    names,
    newest_whole,
    state_at,
    together,
)

from pretrain.checkpoint.manifest import FileSum, Manifest
from pretrain.checkpoint.restore import restore
from pretrain.checkpoint.saver import Saver
from pretrain.checkpoint.store import LocalStore, newest, read_manifest


class GatedStore(LocalStore):
    """A folder on a disk that writes once it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.gate = Event()

    def write(self, name: str, file: str, blocks: Iterable[memoryview]) -> FileSum:
        assert self.gate.wait(30)
        return super().write(name, file, blocks)


def test_training_goes_on_while_a_save_is_written_and_does_not_change_it(tmp_path: Path) -> None:
    def one(ranks: ThreadRanks) -> None:
        store, values = GatedStore(tmp_path), full(3)
        mine = list(cut(values, ranks.rank, 2))
        saver = Saver(store, ranks, KEEP_ALL, mine, lambda _: None)
        saver.save(mine, state_at(4))
        saver.wait_for_copy()
        for fragment in mine:  # the next update
            for state in fragment.states.values():
                state.zero_()
        assert names(tmp_path) == []
        store.gate.set()
        saver.finish()
        assert saver.failure == ""

    together(2, one)
    store, restored = LocalStore(tmp_path), full(9)
    (name,) = names(tmp_path)
    restore(store, name, read_manifest(store, name), cut(restored, 0, 1))
    for parameter, states in full(3).items():
        for key, values in states.items():
            assert torch.equal(restored[parameter][key], values)


def test_a_save_is_committed_while_the_loop_does_something_else(tmp_path: Path) -> None:
    def one(ranks: ThreadRanks) -> None:
        mine = list(cut(full(0), ranks.rank, 2))
        saver = Saver(LocalStore(tmp_path), ranks, KEEP_ALL, mine, lambda _: None)
        saver.save(mine, state_at(4))
        deadline = time.monotonic() + 30
        while newest_manifest(tmp_path) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        saver.save(mine, state_at(5))
        saver.finish()

    together(2, one)
    assert names(tmp_path) == [state_at(5).name, state_at(4).name]


def newest_manifest(root: Path) -> Manifest | None:
    found = (found for _, found in newest(LocalStore(root)) if isinstance(found, Manifest))
    return next(found, None)


def test_a_process_that_ends_on_an_error_completes_the_save_under_way(tmp_path: Path) -> None:
    def one(ranks: ThreadRanks) -> None:
        store = GatedStore(tmp_path)
        mine = list(cut(full(0), ranks.rank, 2))
        saver = Saver(store, ranks, KEEP_ALL, mine, lambda _: None)
        saver.save(mine, state_at(4))
        store.gate.set()
        saver.close(30)

    together(2, one)
    assert newest_manifest(tmp_path) is not None


@pytest.mark.parametrize("filled", range(0, 24, 4))
def test_a_full_disk_leaves_the_checkpoint_before_and_no_debris(
    filled: int, disk_of: Callable[[str], Path]
) -> None:
    small_disk = disk_of("24k")
    said: list[str] = []
    (small_disk / "other").write_bytes(bytes(filled * 1024))

    def one(ranks: ThreadRanks) -> list[bool]:
        mine = list(cut(full(0), ranks.rank, 2))
        say = said.append if ranks.rank == 0 else (lambda _: None)
        saver = Saver(LocalStore(small_disk / "run"), ranks, KEEP_ALL, mine, say)
        failed = []
        for step in range(1, 6):
            saver.save(mine, state_at(step))
            saver.settle()
            failed.append(ranks.gather(saver.failure)[0] != "")
        (small_disk / "other").unlink(missing_ok=True)
        subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
        saver.save(mine, state_at(6))
        saver.finish()
        assert saver.failure == ""
        return failed

    failed, same = together(2, one)
    assert failed == same
    fitted = failed.index(True)
    assert failed == [False] * fitted + [True] * (5 - fitted)
    warnings = [line for line in said if "WARNING" in line]
    assert len(warnings) == 5 - fitted and all("No space left" in line for line in warnings), said
    there = [state_at(step).name for step in (6, *range(fitted, 0, -1))]
    assert sorted(path.name for path in (small_disk / "run").iterdir()) == sorted(there)
    assert newest_whole(small_disk / "run") == small_disk / "run" / there[0]


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    said: list[str] = []
    root = tmp_path / "run"

    def one(ranks: ThreadRanks) -> str:
        mine = list(cut(full(0), ranks.rank, 1))
        saver = Saver(LocalStore(root), ranks, KEEP_ALL, mine, said.append)
        root.rmdir()
        root.write_text("a file where the folder should be")
        saver.save(mine, state_at(1))
        saver.finish()
        return saver.failure

    (failure,) = together(1, one)
    assert failure and "Not a directory" in failure
    assert "step 1 could not be written" in said[0]
