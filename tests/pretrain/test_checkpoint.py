from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any, NoReturn

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from pretrain.checkpoint.keep import CheckpointConfig
from pretrain.checkpoint.manifest import (
    MANIFEST,
    MARKER,
    DamageError,
    State,
    mark_of,
    refuse_other_shapes,
)
from pretrain.checkpoint.restore import newest_valid, restore
from pretrain.checkpoint.saver import Saver
from pretrain.checkpoint.store import UNFINISHED, LocalStore, read_manifest
from pretrain.fragment import Fragment
from shards.errors import UserError
from shards.plan import Origin

SHAPES: dict[str, tuple[int, ...]] = {"a.weight": (7, 5), "a.bias": (7,), "b.weight": (3, 11)}
KEYS = ("master", "exp_avg", "exp_avg_sq")
KEEP_ALL = CheckpointConfig(keep_last=100)


class ThreadRanks:
    """Ranks as threads of one process that meet at a barrier."""

    def __init__(self, rank: int, values: list[Any], meeting: Barrier, board: dist.Store) -> None:
        self.rank, self.world_size = rank, len(values)
        self._values, self._meeting, self._board = values, meeting, board

    def board(self) -> dist.Store:
        return self._board

    def gather(self, value: Any) -> list[Any]:
        self._values[self.rank] = value
        self._meeting.wait()
        gathered = list(self._values)
        self._meeting.wait()
        return gathered

    def fail(self, mistake: str) -> NoReturn:
        raise UserError(mistake)


def together(world_size: int, work: Callable[[ThreadRanks], Any]) -> list[Any]:
    """What ``work`` gives on every rank."""
    values: list[Any] = [None] * world_size
    meeting = Barrier(world_size, timeout=60)
    with ThreadPoolExecutor(world_size) as pool:
        board = dist.HashStore()
        ranks = [ThreadRanks(rank, values, meeting, board) for rank in range(world_size)]
        return list(pool.map(work, ranks))


def full(seed: int) -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: {key: torch.randn(shape, generator=generator).flatten() for key in KEYS}
        for name, shape in SHAPES.items()
    }


def cut(
    values: dict[str, dict[str, torch.Tensor]], rank: int, world_size: int
) -> Iterator[Fragment]:
    """Rank's share of the parameters laid end to end, as ZeRO-1 and 2 partition them."""
    total = sum(states["master"].numel() for states in values.values())
    per_rank = -(-total // world_size)
    low, high, position = rank * per_rank, (rank + 1) * per_rank, 0
    for name, states in values.items():
        size = states["master"].numel()
        first, last = max(low, position) - position, min(high, position + size) - position
        if first < last:
            yield Fragment(name, first, {k: s[first:last] for k, s in states.items()})
        position += size


def state_at(step: int, shapes: dict[str, tuple[int, ...]] = SHAPES, **more: Any) -> State:
    return State(
        step=step,
        epoch=step / 10,
        updates=step,
        fingerprint={"seed": 0},
        origin=Origin(2, 1),
        shapes=shapes,
        **more,
    )


def save(
    root: Path,
    step: int,
    world_size: int,
    seed: int = 0,
    *,
    config: CheckpointConfig = KEEP_ALL,
    damaged: Sequence[str] = (),
    values: dict[str, dict[str, torch.Tensor]] | None = None,
    recorded: dict[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Save one checkpoint from ranks that are threads; the folder it is or would be."""
    state = state_at(step, config=recorded or {}, **more)

    def one(ranks: ThreadRanks) -> None:
        mine = list(cut(values or full(seed), ranks.rank, world_size))
        saver = Saver(LocalStore(root), ranks, config, mine, lambda _: None, damaged)
        saver.save(mine, state)
        saver.finish()

    together(world_size, one)
    return root / state.name


def newest_whole(root: Path, warn: Callable[[str], None] = lambda _: None) -> Path | None:
    (found,) = together(1, lambda ranks: newest_valid(LocalStore(root), ranks, warn))
    return found and root / found.name


def names(root: Path) -> list[str]:
    return LocalStore(root).names()


@given(st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_any_world_size_restores_what_any_other_saved(saved_by: int, read_by: int) -> None:
    restored = {n: {k: torch.zeros_like(t) for k, t in s.items()} for n, s in full(0).items()}
    with tempfile.TemporaryDirectory() as root:
        name = save(Path(root), 3, saved_by).name
        store = LocalStore(Path(root))
        manifest = read_manifest(store, name)
        for rank in range(read_by):
            told = restore(store, name, manifest, cut(restored, rank, read_by))
            assert not told.new_moments
    for name, states in full(0).items():
        for key in KEYS:
            assert torch.equal(restored[name][key], states[key])


def test_folders_are_named_by_epoch_and_step_and_found_by_number(tmp_path: Path) -> None:
    for step in (5, 100, 20):
        save(tmp_path, step, 1)
    assert names(tmp_path) == [
        "epoch_00010_step_00000100",
        "epoch_00002_step_00000020",
        "epoch_00000_step_00000005",
    ]


def damage_cut(folder: Path) -> None:
    path = folder / "rank_00001_of_00002.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def damage_flip(folder: Path) -> None:
    path = folder / "rank_00000_of_00002.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def damage_lose(folder: Path) -> None:
    (folder / "rank_00001_of_00002.safetensors").unlink()


def damage_unmark(folder: Path) -> None:
    (folder / MARKER).unlink()


def damage_manifest(folder: Path) -> None:
    path = folder / MANIFEST
    path.write_text(path.read_text().replace('"step":', '"stop":'))


def damage_empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_cut, "rank_00001_of_00002.safetensors has .* bytes"),
        (damage_flip, "rank_00000_of_00002.safetensors has other bytes"),
        (damage_lose, "rank_00001_of_00002.safetensors is missing"),
        (damage_unmark, "COMMITTED is missing"),
        (damage_manifest, "manifest.json is not the one that was committed"),
        (damage_empty, "COMMITTED is missing"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    tmp_path: Path, damage: Any, said: str
) -> None:
    good, bad = save(tmp_path, 3, 2), save(tmp_path, 6, 2)
    damage(bad)
    for world_size in (1, 2, 3):
        warnings: list[str] = []
        look = partial(newest_valid, LocalStore(tmp_path), warn=warnings.append)
        found = together(world_size, lambda ranks, look=look: look(ranks))  # type: ignore[misc]
        assert {one.name for one in found} == {good.name}
        assert {one.damaged for one in found} == {(bad.name,)}
        assert {one.manifest.state.step for one in found} == {3}
        (warning,) = warnings
        assert re.search(f"{bad.name} is damaged and skipped: {said}", warning)


def test_what_an_unfinished_save_left_is_no_checkpoint_and_is_cleared(tmp_path: Path) -> None:
    good = save(tmp_path, 3, 1)
    shutil.copytree(good, tmp_path / f"epoch_00000_step_00000006{UNFINISHED}")
    assert newest_whole(tmp_path) == good
    later = save(tmp_path, 7, 1)
    assert sorted(tmp_path.iterdir()) == [good, later]


def test_pruning_never_counts_a_damaged_checkpoint_as_kept(tmp_path: Path) -> None:
    old, good, damaged, unmarked = (save(tmp_path, step, 1) for step in (1, 2, 3, 4))
    damage_manifest(damaged)
    damage_unmark(unmarked)
    damage_manifest(save(tmp_path, 5, 1))
    resaved = save(tmp_path, 3, 1, config=CheckpointConfig())
    assert good.exists() and resaved.exists() and not old.exists()
    assert newest_whole(tmp_path) == resaved


def test_a_checkpoint_known_to_be_damaged_is_not_one_of_the_kept(tmp_path: Path) -> None:
    keep = CheckpointConfig(keep_last=2)
    for step in (2, 4, 6):
        last = save(tmp_path, step, 2, config=keep)
    damage_flip(last)
    resume = together(1, lambda ranks: newest_valid(LocalStore(tmp_path), ranks, lambda _: None))[0]
    save(tmp_path, 7, 2, config=keep, damaged=resume.damaged)
    assert names(tmp_path) == [state_at(step).name for step in (7, 6, 4)]
    save(tmp_path, 8, 2, config=keep, damaged=resume.damaged)
    assert names(tmp_path) == [state_at(step).name for step in (8, 7)]
    damage_flip(tmp_path / state_at(8).name)
    resaved = save(tmp_path, 8, 2, config=keep, damaged=[state_at(8).name])
    save(tmp_path, 9, 2, config=keep, damaged=[])
    assert names(tmp_path) == [state_at(9).name, resaved.name]


def test_a_run_whose_checkpoints_are_all_damaged_is_not_started_over(tmp_path: Path) -> None:
    damage_manifest(save(tmp_path, 3, 1))
    with pytest.raises(UserError, match=r"no checkpoint is whole .*to start over"):
        newest_whole(tmp_path)


def test_a_first_save_that_was_killed_before_its_mark_is_as_if_it_never_was(tmp_path: Path) -> None:
    damage_unmark(save(tmp_path, 3, 1))
    assert newest_whole(tmp_path) is None


def test_fragments_that_do_not_cover_a_parameter_are_never_committed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ranks hold 0 of 4 numbers of lost"):
        save(tmp_path, 3, 1, shapes={**SHAPES, "lost": (4,)})
    assert newest_whole(tmp_path) is None


def test_another_model_is_refused_by_its_first_differing_parameter(tmp_path: Path) -> None:
    name = save(tmp_path, 3, 1).name
    manifest = read_manifest(LocalStore(tmp_path), name)
    with pytest.raises(UserError, match=r"parameter a\.weight is \(7, 5\) there and \(7, 6\)"):
        refuse_other_shapes(name, manifest, {**SHAPES, "a.weight": (7, 6)})
    with pytest.raises(UserError, match=r"parameter c is absent there"):
        refuse_other_shapes(name, manifest, {**SHAPES, "c": (1,)})
    refuse_other_shapes(name, manifest, SHAPES)


def test_a_checkpoint_is_a_safetensors_file_per_rank(tmp_path: Path) -> None:
    folder = save(tmp_path, 3, 3, seed=5)
    found: dict[str, torch.Tensor] = {}
    for path in folder.glob("*.safetensors"):
        found |= load_file(path)
    for name, states in full(5).items():
        for key, whole in states.items():
            parts = {int(n.rsplit("/", 1)[1]): n for n in found if n.startswith(f"{key}/{name}/")}
            assert torch.equal(torch.cat([found[parts[at]] for at in sorted(parts)]), whole)


def test_another_format_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path, 3, 1)
    manifest = json.loads((folder / MANIFEST).read_text()) | {"format": 1}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (folder / MARKER).write_bytes(mark_of((folder / MANIFEST).read_bytes()))
    with pytest.raises(DamageError, match="it has format 1, this version reads 2"):
        read_manifest(LocalStore(tmp_path), folder.name)
