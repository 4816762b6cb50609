"""Runs that skip steps and look at themselves, shown with real processes."""

from __future__ import annotations

import gzip
import json
import math
import re
from pathlib import Path
from typing import cast

import pytest
from distributed_runs import Run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pretrain.metrics.layout import LAYOUT
from pretrain.updating import blame

STEPS = 16
EAGER = (
    f"train.steps={STEPS}",
    "train.figures_every=4",
    "checkpoint.every=3",
    "health.window=4",
    "health.sigmas=0.5",
    "profile.steps=[2,3]",
)


def run_in(folder: Path, shards: Path, max_skips: int) -> Run:
    return Run(folder, shards, overrides=(*EAGER, f"health.max_skips={max_skips}"))


@pytest.fixture(scope="module")
def reference(token_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = run_in(tmp_path_factory.mktemp("runs") / "reference", token_shards, 100)
    assert run.finish() == 0, run.output
    return run


def skipped_steps(run: Run) -> list[int]:
    totals = [0, *(int(record["skipped"]) for record in run.log())]
    return [step for step in range(1, len(totals)) if totals[step] > totals[step - 1]]


def test_a_run_that_goes_on_skips_the_steps_that_an_uninterrupted_one_does(
    reference: Run, token_shards: Path
) -> None:
    assert 0 < len(skipped_steps(reference)) < STEPS - 4
    assert reference.log()[-1]["health/spikes"] == len(skipped_steps(reference))
    for step in skipped_steps(reference):
        assert f"step {step} is skipped: its " in reference.output
    killed = run_in(reference.folder.with_name("killed"), token_shards, 100)
    killed.kill_after(9, saved=True)
    assert killed.finish() == 0, killed.output
    assert "resumed run" in killed.output
    assert "profile.steps=[2,3] were taken before" in killed.output
    assert killed.losses() == reference.losses()
    assert skipped_steps(killed) == skipped_steps(reference)


def test_components_are_measured_every_few_steps(reference: Run) -> None:
    norms = {
        int(record["step"]): record["gradient_norm"] ** 2
        - sum(record[key] ** 2 for key in record if key.startswith("optimizer/gradient_norm/"))
        for record in reference.log()
        if "optimizer/gradient_norm/decoder" in record
    }
    assert [*norms] == [4, 8, 12, 16]
    last = reference.log()[-1]
    assert all(abs(rest) < 1e-2 * last["gradient_norm"] ** 2 for rest in norms.values()), norms
    skipped = skipped_steps(reference)
    for record in reference.log():
        measured = "optimizer/update_ratio/decoder" in record
        assert measured == (record["step"] % 4 == 0 and record["step"] not in skipped)
        assert not measured or 1e-6 < record["optimizer/update_ratio/decoder"] < 1


def test_too_many_skipped_steps_end_the_run_and_name_bucket_and_clips(
    reference: Run, token_shards: Path
) -> None:
    run = run_in(reference.folder.with_name("strict"), token_shards, 1)
    assert run.finish() != 0
    first = skipped_steps(reference)[0]
    assert (
        f"nothing moved in 1 steps in a row (health.max_skips), the last one step {first} of "
        in (run.output)
    )
    assert "clips of the largest loss are clip" in run.output, run.output


def test_clips_are_not_blamed_where_none_has_a_finite_loss() -> None:
    clips = [(math.nan, "a"), (3.0, "b"), (2.0, "c")]
    assert "of the largest loss are a, b, c (" in blame(clips, "segue shards plan config.yaml")
    assert "the weights or the rate are at fault" in blame(clips[:1], "")


def test_asked_for_steps_are_profiled(reference: Run) -> None:
    (path,) = (reference.folder / "tensorboard").glob("*.pt.trace.json.gz")
    assert path.name == "steps_2_3.pt.trace.json.gz" and f"wrote {path}" in reference.output
    with gzip.open(path) as file:
        names = {event.get("name") for event in json.load(file)["traceEvents"]}
    assert "aten::_fused_adamw_" in names
    assert reference.output.index(f"wrote {path}") < reference.output.index("step 3/16")


def test_steps_after_the_target_cannot_be_profiled(reference: Run, token_shards: Path) -> None:
    late = (*EAGER, f"profile.steps=[2,{STEPS + 1}]")
    run = Run(reference.folder.with_name("late"), token_shards, overrides=late)
    assert run.finish() != 0
    assert f"profile.steps=[2,{STEPS + 1}]: the run ends at step {STEPS};" in run.output


def test_some_chart_shows_every_curve(reference: Run) -> None:
    events = EventAccumulator(str(reference.folder / "tensorboard")).Reload()
    charts = [chart for category in LAYOUT.values() for chart in category.values()]
    patterns = [pattern for _, shown in charts for pattern in cast("list[str]", shown)]
    tags = events.Tags()["scalars"]
    assert [tag for tag in tags if not any(re.search(one, tag) for one in patterns)] == []
