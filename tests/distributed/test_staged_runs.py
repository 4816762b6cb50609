"""Runs whose parts are frozen, slowed and thawed, shown with real processes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from distributed_runs import Run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from pretrain.checkpoint.restore import whole
from pretrain.checkpoint.store import LocalStore, read_manifest
from pretrain.metrics.files import read_log

STEPS, BOUNDARY = 12, 6
STAGED = (
    f"components.decoder.freeze.until_step={BOUNDARY}",
    "components.decoder.layer_decay=0.5",
    "components.bert_proj.freeze=true",
    "components.head.lr_scale=0.1",
    f"train.steps={STEPS}",
    "checkpoint.every=2",
    "checkpoint.keep_last=10",
    "validation.max_steps=1",
    "model.dropout=0.1",
)


def staged(folder: Path, shards: Path, stage: int = 2, *more: str) -> Run:
    validated = f"validation.sources=[{{path: {shards}, name: all}}]"
    return Run(folder, shards, stage, overrides=(*STAGED, validated, *more))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def masters(run: Run, step: int) -> dict[str, Tensor]:
    (name,) = [name for name in run.checkpoints() if name.endswith(f"{step:08d}")]
    store = LocalStore(run.folder / "checkpoints")
    manifest = read_manifest(store, name)
    return {of: whole(store, name, manifest, of) for of in manifest.state.shapes}


def moved(run: Run, first: int, last: int) -> set[str]:
    """The components whose weights are not the same bits at two steps."""
    before, after = masters(run, first), masters(run, last)
    return {name.split(".")[0] for name in before if not before[name].equal(after[name])}


@pytest.mark.parametrize("stage", [2, 3])
def test_a_staged_run_killed_anywhere_continues_bit_for_bit_and_frozen_parts_stay(
    stage: int, token_shards: Path, runs: Path
) -> None:
    reference = staged(runs / f"reference{stage}", token_shards, stage)
    killed = staged(runs / f"killed{stage}", token_shards, stage)
    assert reference.finish() == 0, reference.output
    assert [record["step"] for record in reference.log()] == list(range(1, STEPS + 1))
    embedded = {"ar_text_embedding", "ar_audio_embedding", "ar_text_position", "ar_audio_position"}
    early = {*embedded, "ar_predict_layer"}
    assert len(read_log(reference.folder / "validation.jsonl")) == STEPS / 2
    assert moved(reference, 2, BOUNDARY) == early
    assert moved(reference, BOUNDARY, STEPS) == {*early, "h"}

    at = random.SystemRandom().randrange(3, STEPS - 1)
    killed.kill_after(at, saved=True)
    assert killed.finish() == 0, killed.output
    assert "resumed run" in killed.output, f"killed at {at}: {killed.output}"
    assert killed.losses() == reference.losses(), f"killed at {at}"


def test_a_staged_run_tells_what_trains_and_at_which_rate(token_shards: Path, runs: Path) -> None:
    run = staged(runs / "told", token_shards, 2, "precision=fp32")
    assert run.finish() == 0, run.output
    rows = [" ".join(line.split()) for line in run.output.splitlines()]
    assert [row for row in rows if row.startswith("decoder ")] == [
        f"decoder 25,408 0 0.5 to 1 frozen until step {BOUNDARY}",
        "decoder 25,408 25,408 0.5 to 1 training",
    ]
    assert [row for row in rows if row.startswith("bert_proj ")] == [
        "bert_proj 32,800 0 1 frozen"
    ] * 2
    kept = [float(row.split()[-2]) for row in rows if row.startswith("optimizer state on each")]
    assert len(kept) == 2 and kept[0] < kept[1]

    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    base = {event.step: event.value for event in events.Scalars("optimizer/lr")}
    for group, factor, first in (
        ("decoder-1/decay", 0.5, BOUNDARY + 1),
        ("decoder-0/no_decay", 1.0, BOUNDARY + 1),
        ("head/decay", 0.1, 1),
        ("head", 0.1, 1),
        ("decoder", 1.0, BOUNDARY + 1),  # of its blocks' the highest
    ):
        found = {event.step: event.value for event in events.Scalars(f"optimizer/lr/{group}")}
        assert list(found) == list(range(first, STEPS + 1))
        for step, rate in found.items():
            assert rate == pytest.approx(factor * base[step], rel=1e-5)
