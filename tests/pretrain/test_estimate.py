"""`segue estimate` and `segue tune-batch`: what they tell, against what is really taken."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from indexes import corpus_of, index_of, lognormal
from typer.testing import CliRunner

from launch.main import app
from pretrain.checkpoint.keep import CheckpointConfig
from pretrain.config import Config, load
from pretrain.estimate.activations import passes
from pretrain.estimate.course import stages
from pretrain.estimate.disk import disk
from pretrain.estimate.estimate import measured
from pretrain.preflight import check
from pretrain.tune.search import Fit, largest, largest_budget
from pretrain.tune.trials import Trials, repeated
from pretrain.tune.tune import Tuner
from shards.curriculum import StageConfig
from shards.dataset import open_plan
from shards.errors import UserError
from shards.plan import BatchConfig, Budget, Plan
from shards.stream import read_batch

CONFIGS = Path("configs")
SMALL = {
    "quickstart": ("model.hidden_dim=64", "model.head=2", "model.n_layer=2"),
    "seed_vc_demo": ("model.hidden_dim=32", "model.content_dim=32", "model.wavenet.layers=1"),
}


def config_of(shards: Path, *overrides: str) -> Config:
    family = "seed_vc_demo" if "voiced" in str(shards) else "quickstart"
    fixed = (f"data.path={shards}", "data.curriculum=[]", "data.workers=0", "precision=fp32")
    settings = (*fixed, *SMALL[family], *overrides)
    return load(CONFIGS / f"{family}.yaml", settings)


@pytest.mark.parametrize("corpus", ["token_shards", "voiced_shards"])
def test_passes_save_what_was_estimated_without_running_them(
    corpus: str, request: pytest.FixtureRequest
) -> None:
    config = config_of(request.getfixturevalue(corpus))
    plan = open_plan(config.data, config.batch, config.seed)
    batch = read_batch(plan, config.model.fields(), plan.costliest()[-1], config.data)
    with torch.device("meta"):
        outline = config.model.build()
    expected = passes(outline, batch, torch.float32, on_cuda=False)
    model, saved = config.model.build().train(), {}
    own = {
        tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *batch.tensors())
    }

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(batch, None)["loss"].sum()
    assert expected.saved == pytest.approx(sum(saved.values()), rel=0.15)
    assert expected.peak >= expected.saved
    loss.backward()


def growth_of(shards: Path) -> tuple[float, float]:
    """Bytes that a process needs for a large micro-batch: as estimated, and as it grows."""
    config = config_of(shards, "model.hidden_dim=128")
    plan = open_plan(config.data, config.batch, config.seed)
    names = frozenset(name for name, _ in config.model.build().named_parameters())
    trials = Trials(config, names, plan, torch.device("cpu"))
    batch = repeated(trials.longest(len(plan.census.buckets) - 1), 48)
    expected = passes(trials.model, batch, torch.float32, on_cuda=False).peak
    return expected, trials.growth(batch, 48) or 0


def test_a_process_grows_by_what_was_estimated(token_shards: Path) -> None:
    # One of its own: this one has freed memory that it would take again.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        expected, measured = pool.submit(growth_of, token_shards).result()
    assert measured > 100e6
    assert expected == pytest.approx(measured, rel=0.15)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_allocates_what_was_estimated(token_shards: Path) -> None:
    config = config_of(token_shards, "model.hidden_dim=256", "precision=bf16")
    plan = open_plan(config.data, config.batch, config.seed)
    names = frozenset(name for name, _ in config.model.build().named_parameters())
    trials = Trials(config, names, plan, torch.device("cuda"))
    batch = repeated(trials.longest(len(plan.census.buckets) - 1), 48)
    expected = passes(trials.model, batch, torch.bfloat16, on_cuda=True).peak
    assert expected == pytest.approx(trials.growth(batch, 48), rel=0.15)


def test_stages_count_every_clip_of_the_epochs_they_cover() -> None:
    corpus = corpus_of((index_of(lognormal(3000)), 1))
    plan = Plan(
        corpus,
        seed=0,
        batch=BatchConfig(seconds=480, micro_seconds=120),
        curriculum=(StageConfig(max_seconds=8), StageConfig(from_step=10)),
    )
    first, second = stages(plan, _Tokens(), plan.step_at(2))
    assert (first.first, first.last, second.last) == (0, 10, plan.step_at(2))
    assert (first.max_seconds, second.max_seconds) == (8, float("inf"))
    assert first.epochs + second.epochs == pytest.approx(2)
    hours = corpus.sources[0].index.seconds.sum() / 3600
    assert first.hours + second.hours == pytest.approx(2 * hours, rel=0.05)
    assert 0 < second.mean.padding < 0.2


class _Tokens:
    """Counts a clip's semantic tokens."""

    def targets(self, corpus, rows):  # type: ignore[no-untyped-def]
        return corpus.gather("semantic", rows).astype(int)


def test_disk_counts_what_the_policy_keeps() -> None:
    plan = Plan(
        corpus_of((index_of(lognormal(500)), 1)),
        seed=0,
        batch=BatchConfig(seconds=480, micro_seconds=120),
    )
    policy = CheckpointConfig(every=10, keep_last=2, keep_every_steps=50)
    found = disk(policy, plan, 205, 7, validates=True)
    assert (found.saved, found.kept, found.most) == (21, 5 + 1, 7 * 7)


@pytest.mark.parametrize("guess", [1, 5, 90, 400])
def test_the_largest_number_is_found_to_within_a_sixteenth(guess: int) -> None:
    for limit in (0, 1, 2, 77, 100):
        tried: list[int] = []

        def fits(n: int, limit: int = limit, tried: list[int] = tried) -> bool:
            tried.append(n)
            return n <= limit

        found = largest(fits, 100, guess)
        assert found <= limit <= found + max(0, found // 16)
        assert len(tried) <= 12


def test_the_budget_that_is_found_holds_no_more_than_fits() -> None:
    budget = Budget(960, 960, "batch.seconds", "batch.micro_seconds")
    fits = [Fit(1, 20.0, 20.0, 7, 0), Fit(0, 5.0, 5.0, 30, 0)]
    found = largest_budget(budget, 2, fits)
    assert found == 120  # 8 micro-batches: with 6 of 160 s a clip too many of 20 s
    assert largest_budget(budget, 2, [Fit(0, 20.0, 20.0, 0, 0)]) is None


def test_the_command_tells_a_run_and_takes_its_throughput(token_shards: Path) -> None:
    arguments = [f"data.path={token_shards}", "deepspeed.stage=3", "--nproc", "2", "--json"]
    given = ["--hours-per-hour", "100", "--gpu-memory", "2.5"]
    done = CliRunner().invoke(app, ["estimate", "configs/quickstart.yaml", *arguments, *given])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    hours = sum(stage["hours"] for stage in found["stages"])
    assert found["seconds"] == pytest.approx(36 * hours)
    assert (found["target"], found["chosen"], found["recommended"]) == (60, "ZeRO-3", "ZeRO-1")
    assert found["memory"]["ZeRO-1"]["weights"] == 2 * found["parameters"]["every"]


def test_a_throughput_is_that_of_the_last_start_and_of_its_processes(
    token_shards: Path, tmp_path: Path
) -> None:
    told = [(1, 0, 2, 0.0), (2, 0, 2, 50.0), (3, 2, 1, 900.0), (4, 2, 1, 910.0), (5, 2, 1, 930.0)]
    facts = ("step", "start", "processes", "time", "audio_seconds")
    lines = [json.dumps(dict(zip(facts, (*one, 600.0), strict=True))) for one in told]
    config = config_of(token_shards, f"run.dir={tmp_path}", "run.name=one")
    config.run.folder.mkdir()
    (config.run.folder / "log.jsonl").write_text("\n".join(lines))
    found = measured(config)
    assert found and (found.hours_per_hour, found.processes) == (1200 / 30, 1)
    arguments = [f"data.path={token_shards}", f"run.dir={tmp_path}", "run.name=one", "--nproc"]
    for count, said in ((1, "40.0 hours an hour"), (2, "1 processes, where 2 are asked for")):
        command = ["estimate", "configs/quickstart.yaml", *arguments, str(count)]
        done = CliRunner().invoke(app, command)
        assert said in done.output and "ZeRO-0 is not for precision=bf16" in done.output


def test_what_is_wrong_with_a_run_shows_in_its_estimate(token_shards: Path) -> None:
    for more in (["--nproc", "3"], ["--gpu-memory", "h1000"]):
        arguments = ["estimate", "configs/quickstart.yaml", f"data.path={token_shards}", *more]
        assert isinstance(CliRunner().invoke(app, arguments).exception, UserError)


ROOM = 64e6
"""Bytes; what a process's first passes take beside their tensors is some tens of MB."""


@pytest.mark.parametrize("corpus", ["token_shards", "voiced_shards"])
def test_tuning_finds_what_fits_and_no_more(corpus: str, request: pytest.FixtureRequest) -> None:
    config = config_of(request.getfixturevalue(corpus), "batch.buckets=1")
    ready = check(config, world_size=2, device="cpu", environ={})
    (fit,) = Tuner(config, ready, 2, torch.device("cpu"), room=int(ROOM)).fits()
    assert fit.clips and 0 < fit.peak <= ROOM


def test_tune_batch_prints_the_setting_to_write(token_shards: Path) -> None:
    arguments = [f"data.path={token_shards}", *SMALL["quickstart"], "batch.seconds=16"]
    arguments += ["batch.buckets=1", "precision=fp32"]
    command = ["tune-batch", "configs/quickstart.yaml", *arguments, "--memory", "16"]
    done = CliRunner().invoke(app, [*command, "--nodes", "2"])
    assert done.exit_code == 0, done.output
    assert "batch.micro_seconds=8" in done.stdout.split()


def test_a_memory_that_holds_no_process_is_refused(token_shards: Path) -> None:
    arguments = ["configs/quickstart.yaml", f"data.path={token_shards}", "--memory", "0.01"]
    found = CliRunner().invoke(app, ["tune-batch", *arguments]).exception
    assert isinstance(found, UserError) and "raise --memory" in str(found)
