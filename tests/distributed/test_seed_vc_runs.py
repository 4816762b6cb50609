"""Seed-VC in real runs by the demo's config, made tiny: killed, staged, frozen in parts."""

from __future__ import annotations

from pathlib import Path

import pytest
from distributed_runs import Run

from pretrain.checkpoint.restore import whole
from pretrain.checkpoint.store import LocalStore, read_manifest
from pretrain.metrics.files import read_log

DEMO = Path("configs/seed_vc_demo.yaml").resolve()
STEPS, THAW, LONGER = 10, 4, 5
SIZES = (
    "model.hidden_dim=32",
    "model.n_layer=3",
    "model.content_dim=16",
    "model.wavenet.layers=2",
    "model.class_dropout=0.5",
    "batch.seconds=9.6",
    "batch.micro_seconds=2.4",
    "batch.buckets=3",
    f"data.curriculum=[{{max_seconds: 1.5}}, {{from_step: {LONGER}}}]",
    f"components.length_regulator.freeze.until_step={THAW}",
    "components[cfm.estimator.conv1.*].freeze=true",
    "components.transformer.lr_scale=0.5",
    "schedule.warmup_steps=2",
    f"train.steps={STEPS}",
    "train.log_every=1",
    "checkpoint.every=2",
    "checkpoint.keep_last=10",
    "preview.clips=0",
)


def seed_vc(folder: Path, shards: Path, stage: int, processes: int, *more: str) -> Run:
    source = f"validation.sources=[{{path: {shards}, name: all}}]"
    return Run(folder, shards, stage, processes, (source, *more), config=DEMO, sizes=SIZES)


def moved(run: Run, first: int, last: int) -> set[str]:
    """The parameters whose weights are not the same bits at two steps."""
    store = LocalStore(run.folder / "checkpoints")
    before, after = (
        (name, read_manifest(store, name))
        for step in (first, last)
        for name in store.names()
        if name.endswith(f"{step:08d}")
    )
    return {
        name
        for name in before[1].state.shapes
        if not whole(store, *before, name).equal(whole(store, *after, name))
    }


def test_it_goes_on_alike_in_another_stage_on_other_processes_and_freezes_by_name(
    voiced_shards: Path, tmp_path: Path
) -> None:
    reference = seed_vc(tmp_path / "reference", voiced_shards, 2, 2)
    assert reference.finish() == 0, reference.output
    assert reference.losses()[-1] < 0.9 * reference.losses()[0]
    assert "estimator: cfm.estimator.conv1.*" in reference.output

    early, late = moved(reference, 2, THAW), moved(reference, THAW, STEPS)
    assert not [name for name in early if name.startswith("length_regulator.")]
    assert "length_regulator.model.0.weight" in late
    assert "cfm.estimator.transformer.layers.0.attention.wqkv.weight" in early & late
    idle = {"cfm.estimator.x_embedder.weight_v", "length_regulator.embedding.weight"}
    frozen = {"cfm.estimator.conv1.weight", "cfm.estimator.conv1.bias"}
    assert not (early | late) & (idle | frozen)
    stages = [record["stage"] for record in reference.log()]
    assert stages == [0] * LONGER + [1] * (STEPS - LONGER)

    killed = seed_vc(tmp_path / "killed", voiced_shards, 2, 2)
    killed.kill_after(3, saved=True)
    onward = seed_vc(tmp_path / "killed", voiced_shards, 3, 1)
    assert onward.finish() == 0, onward.output
    assert "resumed run" in onward.output
    assert onward.losses() == pytest.approx(reference.losses(), abs=1e-5)
    validated = [
        {record["step"]: record["loss"] for record in read_log(run.folder / "validation.jsonl")}
        for run in (reference, onward)
    ]
    assert validated[1] == pytest.approx(validated[0], abs=1e-5)
    assert len(validated[0]) == STEPS / 2


def test_it_stays_near_the_weights_it_began_with(voiced_shards: Path, tmp_path: Path) -> None:
    plain = ("train.steps=2", "model.wavenet.dropout=0")  # the teacher has no dropout
    begun = seed_vc(tmp_path / "begun", voiced_shards, 1, 1, *plain)
    assert begun.finish() == 0, begun.output
    near = seed_vc(
        tmp_path / "near",
        voiced_shards,
        1,
        1,
        *plain,
        f"init_from={begun.folder}",
        "init_check=false",
        "distill.weight=1",
    )
    assert near.finish() == 0, near.output
    first = near.log()[0]
    assert first["distill"] == pytest.approx(0, abs=1e-6)
    assert first["loss"] == pytest.approx(first["flow_matching"])
