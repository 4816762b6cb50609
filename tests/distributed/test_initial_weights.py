"""Runs that begin with another's weights: at every level, checked, guided, and only once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from distributed_runs import TINY, Run

from pretrain.checkpoint.location import opened
from pretrain.models.gpt_sovits_s1.config import S1Config

SETTINGS = ("precision=fp32", "schedule.name=constant", "schedule.warmup_steps=0")


@pytest.fixture(scope="module")
def trained(token_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(
        tmp_path_factory.mktemp("runs") / "trained",
        token_shards,
        overrides=(*SETTINGS, "train.steps=12"),
    )
    assert run.finish() == 0, run.output
    return run


def test_all_of_another_run_goes_on_as_that_run_would(
    trained: Run, token_shards: Path, tmp_path: Path
) -> None:
    settings = (*SETTINGS, "train.steps=16", "schedule.resume_warmup=0")
    whole = Run(tmp_path / "whole", token_shards, overrides=settings)
    assert whole.finish() == 0, whole.output
    taken = (f"init_from={trained.folder}", "init_level=all")
    run = Run(tmp_path / "all", token_shards, stage=3, overrides=(*settings, *taken))
    assert run.finish() == 0, run.output
    assert [record["step"] for record in run.log()] == [13, 14, 15, 16]
    assert run.losses() == pytest.approx(whole.losses()[12:], rel=1e-5)


def test_weights_and_optimizer_begin_a_new_course_that_stays_near_its_teacher(
    trained: Run, token_shards: Path, tmp_path: Path
) -> None:
    settings = (
        *SETTINGS,
        "train.steps=8",
        "checkpoint.every=3",
        f"init_from={trained.folder}",
        "init_level=weights+optimizer",
        "distill={from: init, weight: 0.5, temperature: 2, until_step: 6}",
    )
    whole = Run(tmp_path / "whole", token_shards, overrides=settings)
    assert whole.finish() == 0, whole.output
    assert "a checkpoint of Segue, step 12" in whole.output and "with fresh weights" in whole.output
    first, log = trained.log(), whole.log()
    assert log[0]["cross_entropy"] < 0.8 * first[0]["loss"]
    assert log[0]["distill"] < 1e-4 < log[4]["distill"] and log[-1].get("distill") is None
    _, _, manifest = opened(str(whole.folder))
    assert (manifest.state.step, manifest.state.updates) == (8, 20)

    cut = Run(tmp_path / "cut", token_shards, overrides=settings)
    cut.kill_after(4, saved=True)
    assert cut.finish() == 0, cut.output
    assert "init_from is ignored: the run has a checkpoint of its own" in cut.output
    assert cut.losses() == whole.losses()


def test_a_larger_model_begins_better_than_fresh_and_useless_weights_are_refused(
    trained: Run, token_shards: Path, tmp_path: Path
) -> None:
    grown = Run(
        tmp_path / "grown",
        token_shards,
        overrides=(
            *SETTINGS,
            "train.steps=1",
            f"init_from={trained.folder}",
            "model.n_layer=3",
            "model.vocab_size=1100",
            "model.phoneme_vocab_size=740",
            "allow.depth={decoder: zero}",
            "allow.reshape={'ar_*': mean}",
        ),
    )
    assert grown.finish() == 0, grown.output
    assert grown.losses()[0] < 0.8 * trained.losses()[0]

    sizes = dict(one.removeprefix("model.").split("=") for one in TINY if one.startswith("model."))
    torch.manual_seed(5)
    state = S1Config.model_validate(sizes).build().state_dict()
    released = {"weight": {f"model.{name}": values.half() for name, values in state.items()}}
    torch.save(released | {"config": {"model": {}}, "info": "GPT-e1"}, tmp_path / "fresh.ckpt")
    useless = Run(
        tmp_path / "useless",
        token_shards,
        overrides=(*SETTINGS, "train.steps=1", f"init_from={tmp_path / 'fresh.ckpt'}"),
    )
    assert useless.finish() != 0
    assert "error: init_from: " in useless.output and "init_check=false" in useless.output
    useless.overrides = (*useless.overrides, "init_check=false")
    assert useless.finish() == 0, useless.output
    assert "GPT-SoVITS s1 weights, GPT-e1" in useless.output
