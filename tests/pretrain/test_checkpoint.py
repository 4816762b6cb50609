from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain import checkpoint
from pretrain.checkpoint import State
from pretrain.engine import Fragment
from shards.errors import UserError
from shards.plan import Origin

SHAPES: dict[str, tuple[int, ...]] = {"a.weight": (7, 5), "a.bias": (7,), "b.weight": (3, 11)}
KEYS = ("master", "exp_avg", "exp_avg_sq")


class ThreadRanks:
    """Ranks as threads of one process that meet at a barrier."""

    def __init__(self, rank: int, values: list[Any], meeting: Barrier) -> None:
        self.rank, self.world_size = rank, len(values)
        self._values, self._meeting = values, meeting

    def barrier(self) -> None:
        self._meeting.wait()

    def gather(self, value: Any) -> list[Any]:
        self._values[self.rank] = value
        self._meeting.wait()
        gathered = list(self._values)
        self._meeting.wait()
        return gathered


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
            yield Fragment(name, first, {key: states[key][first:last] for key in KEYS})
        position += size


def save(root: Path, step: int, world_size: int, seed: int = 0) -> Path:
    values: list[Any] = [None] * world_size
    meeting = Barrier(world_size)
    state = State(step, step / 10, step, {"seed": 0}, Origin(2, 1), SHAPES, {"torch": "2.11"})

    def one(rank: int) -> Path:
        ranks = ThreadRanks(rank, values, meeting)
        return checkpoint.save(root, cut(full(seed), rank, world_size), state, ranks)

    with ThreadPoolExecutor(world_size) as pool:
        return set(pool.map(one, range(world_size))).pop()


@given(st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_any_world_size_restores_what_any_other_saved(saved_by: int, read_by: int) -> None:
    restored = {n: {k: torch.zeros_like(t) for k, t in s.items()} for n, s in full(0).items()}
    with tempfile.TemporaryDirectory() as root:
        folder = save(Path(root), 3, saved_by)
        for rank in range(read_by):
            manifest = checkpoint.read_manifest(folder)
            checkpoint.restore(folder, manifest, cut(restored, rank, read_by))
    for name, states in full(0).items():
        for key in KEYS:
            assert torch.equal(restored[name][key], states[key])


def test_folders_are_named_by_epoch_and_step_and_found_by_number(tmp_path: Path) -> None:
    for step in (5, 100, 20):
        save(tmp_path, step, 1)
    assert [path.name for path in checkpoint.newest_first(tmp_path)] == [
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
    (folder / checkpoint.MARKER).unlink()


def damage_manifest(folder: Path) -> None:
    path = folder / checkpoint.MANIFEST
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
        (damage_empty, "manifest.json is missing"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    tmp_path: Path, damage: Any, said: str
) -> None:
    good, bad = save(tmp_path, 3, 2), save(tmp_path, 6, 2)
    damage(bad)
    warnings: list[str] = []
    found = checkpoint.newest_valid(tmp_path, warnings.append)
    assert found is not None and found[0] == good and found[1].step == 3
    assert len(warnings) == 1 and bad.name in warnings[0]
    with pytest.raises(ValueError, match=said):
        checkpoint.verify(bad)


def test_what_an_unfinished_save_left_is_no_checkpoint_and_is_cleared(tmp_path: Path) -> None:
    good = save(tmp_path, 3, 1)
    shutil.copytree(good, tmp_path / f"epoch_00000_step_00000006{checkpoint.UNFINISHED}")
    assert list(checkpoint.newest_first(tmp_path)) == [good]
    checkpoint.prune(tmp_path, keep_last=2)
    assert list(tmp_path.iterdir()) == [good]


def test_pruning_never_counts_a_damaged_checkpoint_as_kept(tmp_path: Path) -> None:
    old, good, damaged, unmarked = (save(tmp_path, step, 1) for step in (1, 2, 3, 4))
    damage_manifest(damaged)
    damage_unmark(unmarked)
    resaved = save(tmp_path, 3, 1)
    damage_manifest(save(tmp_path, 5, 1))
    checkpoint.prune(tmp_path, keep_last=2)
    assert good.exists() and resaved.exists() and not old.exists()
    found = checkpoint.newest_valid(tmp_path, lambda _: None)
    assert found is not None and found[0] == resaved


def test_a_run_whose_checkpoints_are_all_damaged_is_not_started_over(tmp_path: Path) -> None:
    damage_manifest(save(tmp_path, 3, 1))
    with pytest.raises(UserError, match=r"no checkpoint is whole .*to start over"):
        checkpoint.newest_valid(tmp_path, lambda _: None)


def test_a_first_save_that_was_killed_before_its_mark_is_as_if_it_never_was(tmp_path: Path) -> None:
    damage_unmark(save(tmp_path, 3, 1))
    assert checkpoint.newest_valid(tmp_path, lambda _: None) is None


def test_fragments_that_do_not_cover_a_parameter_are_never_committed(tmp_path: Path) -> None:
    state = State(3, 0.3, 3, {}, Origin(), {**SHAPES, "lost": (4,)}, {})
    ranks = ThreadRanks(0, [None], Barrier(1))
    with pytest.raises(RuntimeError, match="ranks hold 0 of 4 numbers of lost"):
        checkpoint.save(tmp_path, cut(full(0), 0, 1), state, ranks)
    assert checkpoint.newest_valid(tmp_path, lambda _: None) is None


def test_pruning_keeps_the_newest(tmp_path: Path) -> None:
    kept = [save(tmp_path, step, 1) for step in (1, 2, 3, 4)][-2:]
    checkpoint.prune(tmp_path, keep_last=2)
    assert sorted(tmp_path.iterdir()) == kept


def test_another_model_is_refused_by_its_first_differing_parameter(tmp_path: Path) -> None:
    folder = save(tmp_path, 3, 1)
    manifest = checkpoint.read_manifest(folder)
    with pytest.raises(UserError, match=r"parameter a\.weight is \(7, 5\) there and \(7, 6\)"):
        checkpoint.refuse_other_shapes(folder, manifest, {**SHAPES, "a.weight": (7, 6)})
    with pytest.raises(UserError, match=r"parameter c is absent there"):
        checkpoint.refuse_other_shapes(folder, manifest, {**SHAPES, "c": (1,)})
    checkpoint.refuse_other_shapes(folder, manifest, SHAPES)
