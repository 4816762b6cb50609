"""The training loop against bare loops with the same model and pre-loaded batches.

    python tests/bench/overhead.py WORK [--steps N]

A step of a real run, with its loader, records, log, TensorBoard and checks, takes turns with the
same step in two bare loops over batches that lie in memory: one of plain torch, one of the same
ZeRO engine (DeepSpeed's work in both, ours in none). All share one process, so that what else the
machine does falls on all alike. One thread computes, as the loader has cores of its own beside a
GPU too; while a bare step runs it may read ahead. The process's CPU time is steadier than wall time
on a machine that others use. Checkpoints have a benchmark of their own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from corpus import write_corpus
from torch import nn

from pretrain.__main__ import say
from pretrain.chatter import keep_out
from pretrain.components import training
from pretrain.config import Config, load
from pretrain.engine import Engine, join
from pretrain.intake import StepData
from pretrain.loop import train
from pretrain.preflight import Ready, check
from pretrain.processes import Processes, end_process
from pretrain.stop import StopRequest
from pretrain.watch import Watch, new_folder
from shards.stream import read_batch

CLIPS = 4000
WARM_UP = 3
SETTINGS = (
    "data.max_seconds=20",
    "batch.seconds=96",
    "batch.micro_seconds=24",
    "model.hidden_dim=192",
    "model.head=4",
    "model.n_layer=6",
    "data.workers=1",
    "precision=fp32",
    "deepspeed.stage=0",
    "device=cpu",
    "train.log_every=10",
)
Step = Callable[[int], object]
"""One optimizer step on the batches of step n, counted from 0."""
Times = tuple[float, float]
SEGUE = "segue"


class Interleaved(Watch):
    """Lets ``others`` take the same step whenever the run that it watches is done with one.

    ``took`` holds wall and CPU seconds of every step, by name.
    """

    def __init__(self, folder: Path, others: dict[str, Step]) -> None:
        super().__init__(folder, 0, start_seconds=3600, hang_seconds=3600)
        self._others, self._mark = others, clocks()
        self.took: dict[str, list[Times]] = {SEGUE: [], **{name: [] for name in others}}

    def stepped(self) -> None:
        """What the run did since the others' last step was one step of its own."""
        super().stepped()
        self._note(SEGUE)
        number = len(self.took[SEGUE]) - 1
        for name in sorted(self._others, reverse=bool(number % 2)):
            self._others[name](number)
            self._note(name)

    def _note(self, name: str) -> None:
        now = clocks()
        self.took[name].append((now[0] - self._mark[0], now[1] - self._mark[1]))
        self._mark = now


def clocks() -> Times:
    """Wall and CPU seconds of this process."""
    return time.perf_counter(), time.process_time()


def preloaded(config: Config, ready: Ready, steps: int) -> list[StepData]:
    """All batches of the first steps, in memory."""
    plan, held = ready.plan, []
    for step in plan.steps(0, steps):
        micro = plan.share(step)
        batches = tuple(read_batch(plan, config.model.fields(), m, config.data) for m in micro)
        tokens = sum(int(config.model.targets(plan.corpus, b.rows).sum()) for b in batches)
        clips = sum(len(batch.rows) for batch in batches)
        held.append(
            StepData(
                batches=batches,
                own_wait=0.0,
                tokens=tokens,
                clips=clips,
                seconds=0.0,
                padded_seconds=0.0,
                balance=1.0,
                waited=0.0,
                flops=0.0,
                failures=(),
                mistake=None,
            )
        )
    return held


def plain_torch(config: Config, held: list[StepData]) -> Step:
    """A loop of torch alone."""
    torch.manual_seed(config.seed)
    model: nn.Module = config.model.build()
    adam = torch.optim.AdamW(model.parameters(), lr=1e-5, betas=config.optimizer.betas)

    def step(number: int) -> None:
        data = held[number]
        for batch in data.batches:
            (model(batch)["loss"].sum() / data.tokens).backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip)
        adam.step()
        adam.zero_grad()

    return step


def same_engine(config: Config, ready: Ready, processes: Processes, held: list[StepData]) -> Step:
    """Forward, backward and step of the engine that runs have."""
    torch.manual_seed(config.seed)
    groups = training(ready.outline, {}, config.optimizer, ready.plan.step_at).groups(0)
    engine = Engine(
        config.model.build(),
        groups,
        processes,
        optimizer=config.optimizer,
        zero=ready.zero,
        precision=config.precision,
        accumulation=ready.accumulation,
    )

    def step(number: int) -> None:
        data = held[number]
        for batch in data.batches:
            loss = engine.forward(batch)["loss"].sum()
            engine.backward(loss, 1 / data.tokens, last=batch is data.batches[-1])
        engine.step(1e-5)

    return step


def report(took: dict[str, list[Times]]) -> None:
    """Medians, and by how much a step of a run takes longer than the same step of others."""
    for kind, clock in enumerate(("wall", "CPU")):
        seconds = {name: np.array(times)[WARM_UP:, kind] for name, times in took.items()}
        for name, values in seconds.items():
            line = f"{clock:5} {name:12} {np.median(values):7.3f} s a step"
            if name != SEGUE:
                ratios = seconds[SEGUE] / values
                low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75]) - 1
                together = seconds[SEGUE].sum() / values.sum() - 1
                line += f"   segue {middle:+.1%} (quartiles {low:+.1%} and {high:+.1%}"
                line += f"; all steps {together:+.1%})"
            print(line)


def main() -> None:
    """Write a corpus, take the steps, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("settings", nargs="*", help="further key.sub=value")
    given = parser.parse_args()
    shards, runs = given.work / "shards", given.work / "runs"
    if not (shards / "index.arrow").exists():
        write_corpus(shards, "tokens", CLIPS)
    shutil.rmtree(runs, ignore_errors=True)
    keep_out()
    torch.set_num_threads(1)
    places = (f"data.path={shards}", f"run.dir={runs}", "run.name=overhead")
    overrides = (*SETTINGS, *places, f"train.steps={given.steps}", *given.settings)
    config = load(Path("configs/gpt_sovits_s1.yaml"), overrides)
    ready = check(config, world_size=1, device="cpu", environ=os.environ)
    processes = join("cpu")
    held = preloaded(config, ready, given.steps)
    others = {
        "plain torch": plain_torch(config, held),
        "same engine": same_engine(config, ready, processes, held),
    }
    folder = config.run.folder
    with Interleaved(new_folder(folder), others) as watch:
        train(config, ready, processes, StopRequest(folder, watches=True), watch, say)
    print(f"{len(watch.took[SEGUE]) - WARM_UP} steps of each, in turn")
    report(watch.took)
    end_process(0)


if __name__ == "__main__":
    main()
