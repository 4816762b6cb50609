"""Validation in real runs: the same on any number of processes, kept, and an end to the run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from distributed_runs import Run
from typer.testing import CliRunner

from launch.main import app
from pretrain.checkpoint.keep import VALIDATION_LOSS
from pretrain.checkpoint.store import LocalStore, read_manifest
from pretrain.metrics.files import read_log


@pytest.fixture(scope="module")
def split_shards(token_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clips of `token_shards`, every fifth of them set apart."""
    folder = tmp_path_factory.mktemp("split") / "shards"
    shutil.copytree(token_shards, folder)
    with pa.ipc.open_file(folder / "index.arrow") as reader:
        table = reader.read_all()
    names = ["validation" if row % 5 == 0 else "train" for row in range(table.num_rows)]
    column = pa.array(names).dictionary_encode()
    table = table.append_column("split", column).combine_chunks()
    with pa.ipc.new_file(folder / "index.arrow", table.schema) as writer:
        writer.write_table(table)
    return folder


def validations(run: Run) -> dict[int, dict[str, float]]:
    """By step, the loss of each set and group."""
    found: dict[int, dict[str, float]] = {}
    for record in read_log(run.folder / "validation.jsonl"):
        name = f"{record['set']} {record['group']}"
        found.setdefault(int(record["step"]), {})[name] = record["loss"]
    return found


def test_validation_is_the_same_on_any_number_of_processes_and_after_a_kill(
    split_shards: Path, token_shards: Path, tmp_path: Path
) -> None:
    settings = (
        "precision=fp32",
        "train.steps=12",
        "checkpoint.every=4",
        f"validation.sources=[{{path: {token_shards}, name: old}}]",
    )
    two = Run(tmp_path / "two", split_shards, overrides=settings)
    assert two.finish() == 0, two.output
    three = Run(tmp_path / "three", split_shards, stage=3, overrides=settings)
    three.kill_after(7)
    three.processes = 4
    assert three.finish() == 0, three.output

    found = validations(two)
    assert [*found] == [4, 8, 12] == [*validations(three)]
    for step, losses in found.items():
        assert validations(three)[step] == pytest.approx(losses, rel=1e-5)
    rows = [json.loads(line) for line in (two.folder / "validation.jsonl").open()]
    assert all(0 < row["seconds"] < 60 for row in rows)
    assert len({(row["step"], row["seconds"]) for row in rows}) == 3  # of the whole validation
    clips = {(row["set"], row["group"]): row["clips"] for row in rows}
    assert clips["validation", "all"] == 24 and clips["old", "all"] == 120
    bands = [count for (name, group), count in clips.items() if (name, group[:2]) == ("old", "se")]
    assert len(bands) > 1 and sum(bands) == 120
    losses = [found[step]["validation all"] for step in (4, 8, 12)]
    assert losses == sorted(losses, reverse=True)
    assert "step 12  validation: validation loss" in two.output
    assert sum(r["clips"] for r in two.log() if r["epoch"] <= 1) <= 96

    for data, name in ((split_shards, "validation"), (token_shards, "old")):
        done = CliRunner().invoke(app, ["eval", str(two.folder), str(data), "--json"])
        assert done.exit_code == 0, done.output
        groups = json.loads(done.output)["groups"]
        told = {f"{name} {group}": score["loss"] for group, score in groups.items()}
        ours = {group: loss for group, loss in found[12].items() if group.startswith(name)}
        assert told == pytest.approx(ours, rel=1e-5)

    store = LocalStore(two.folder / "checkpoints")
    figures = read_manifest(store, store.names()[0]).state.figures
    assert figures[VALIDATION_LOSS] == losses[-1] and figures["best_step"] == 12


def test_a_step_validated_on_other_clips_alone_is_not_validated_again_where_a_run_goes_on(
    token_shards: Path, tmp_path: Path
) -> None:
    others = (f"validation.sources=[{{path: {token_shards}, name: old}}]", "validation.max_steps=1")
    run = Run(tmp_path / "run", token_shards, processes=1, overrides=("train.steps=4", *others))
    assert run.finish() == 0, run.output
    run.overrides = ("train.steps=6", *others)
    assert run.finish() == 0, run.output
    rows = read_log(run.folder / "validation.jsonl")
    assert [row["step"] for row in rows if row["group"] == "all"] == [4, 6]


def test_a_run_ends_where_validation_gets_no_better_and_keeps_its_best(
    split_shards: Path, tmp_path: Path
) -> None:
    settings = (
        "precision=fp32",
        "train.steps=4000",
        "schedule.name=constant",
        "optimizer.lr=0.1",  # it diverges
        "validation.stop_after=3",
        "validation.every=2",
        "checkpoint.every=2",
    )
    run = Run(tmp_path / "run", split_shards, overrides=settings)
    assert run.finish() == 0, run.output
    losses = {step: found["validation all"] for step, found in validations(run).items()}
    best = min(losses, key=lambda step: losses[step])
    assert max(losses) == best + 6 == len(run.log())
    assert f"validation was best at step {best} (loss {losses[best]:.4f}), 3 validations" in (
        run.output
    )
    steps = [int(name.split("_step_")[1]) for name in run.checkpoints()]
    assert steps == [best, best + 4, best + 6]

    assert run.finish() == 0, run.output
    assert f"already at step {best + 6}, where it ended as validation.stop_after=3 says" in (
        run.output
    )
