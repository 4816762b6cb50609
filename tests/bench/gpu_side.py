"""One side of `gpu.py`, in a process of its own; its last line is JSON.

    python tests/bench/gpu_side.py segue|dense CONFIG STEPS WARM_UP COUNT [key.sub=value ...]

``segue`` is a run as users start it. ``dense`` trains the same model with the same engine, but
every layer gets a float mask for each head and a micro-batch is COUNT random clips.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pretrain.__main__ import say
from pretrain.chatter import keep_out
from pretrain.config import Config, load
from pretrain.engine import Engine, join
from pretrain.loop import train
from pretrain.metrics.files import read_log
from pretrain.preflight import Ready, check, choose_device
from pretrain.processes import Processes, end_process
from pretrain.start import fresh_model
from pretrain.stop import StopRequest
from pretrain.watch import Watch, new_folder
from shards.collate import Batch, Collate
from shards.dataset import open_stores
from shards.plan import MicroBatch
from shards.reading import ClipReader
from shards.stream import PlanSource

HOUR = 3600.0


@dataclass(frozen=True)
class Took:
    """What steps after the warm-up came to: seconds of wall time, of waiting for data, of audio
    and of audio after padding, and the loss's targets.
    """

    steps: int
    seconds: float
    waited: float
    audio: float
    padded: float
    targets: float


def run_segue(config: Config, ready: Ready, processes: Processes, warm_up: int) -> Took:
    """A run to its target; its own log tells."""
    folder = config.run.folder
    hangs = new_folder(folder)
    with Watch(hangs, 0, start_seconds=HOUR, hang_seconds=HOUR) as watch:
        train(config, ready, processes, StopRequest(folder, watches=True), watch, say)
    log = read_log(folder / "log.jsonl")
    counted = log[warm_up:]
    return Took(
        steps=len(counted),
        seconds=log[-1]["time"] - log[warm_up - 1]["time"],
        waited=sum(one["data_seconds"] for one in counted),
        audio=sum(one["audio_seconds"] for one in counted),
        padded=sum(one["audio_seconds"] / (1 - one["padding"]) for one in counted),
        targets=sum(one["tokens"] for one in counted),
    )


class RandomBatches(Dataset[Batch]):
    """Micro-batches of ``count`` clips in random order, read as runs read theirs."""

    def __init__(self, config: Config, ready: Ready, count: int, batches: int) -> None:
        self._config, self._plan = config, ready.plan
        chance, corpus = np.random.default_rng(config.seed), ready.plan.corpus
        seconds = corpus.seconds(np.arange(len(corpus)))
        longest = config.data.max_seconds or np.inf
        fitting = np.flatnonzero((seconds >= config.data.min_seconds) & (seconds <= longest))
        epochs = -(-count * batches // len(fitting))
        order = np.concatenate([chance.permutation(fitting) for _ in range(epochs)])
        self._rows = order[: count * batches].reshape(batches, count)
        self._source: PlanSource | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> Batch:
        fields, plan, data = self._config.model.fields(), self._plan, self._config.data
        if self._source is None:  # one for each loader process
            reader = ClipReader(plan.corpus, open_stores(plan.corpus, data.cache), fields)
            self._source = PlanSource(plan, lambda: reader, range(0), data)
        micro = MicroBatch(0, number, 0, self._rows[number])
        return Collate(fields).batch(self._source.read(micro))


def run_dense(
    config: Config, ready: Ready, processes: Processes, steps: int, warm_up: int, count: int
) -> Took:
    """A plain loop over fixed-count batches with dense masks."""
    engine = dense_engine(config, ready, processes)
    cuda = processes.device.type == "cuda"
    dataset = RandomBatches(config, ready, count, steps * ready.accumulation)
    loader = DataLoader(dataset, batch_size=None, num_workers=config.data.workers, pin_memory=cuda)
    batches, sums, begun = iter(loader), np.zeros(4), 0.0
    for step in range(steps):
        if step == warm_up:
            sums[:], begun = 0, time.perf_counter()
        sums += dense_step(config, ready, engine, batches)
    seconds = time.perf_counter() - begun
    return Took(steps - warm_up, seconds, *sums.tolist())


def dense_engine(config: Config, ready: Ready, processes: Processes) -> Engine:
    """The run's engine over a model whose layers get dense masks."""
    from pretrain.components import training

    model = fresh_model(config)
    for part in model.modules():
        if type(part).__name__ in {"Decoder", "Transformer"}:
            heads = getattr(config.model, "head")  # noqa: B009 - both families name it so
            part.register_forward_pre_hook(partial(densified, heads))
    course = training(ready.outline, config.components, config.optimizer, ready.plan.step_at)
    return Engine(
        model,
        course.groups(0),
        processes,
        optimizer=config.optimizer,
        zero=ready.zero,
        precision=config.precision,
        accumulation=ready.accumulation,
    )


def densified(heads: int, _part: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """The last argument, a mask bool [B, 1, 1 or T, T], as floats [B, heads, T, T]."""
    x, allowed = given[0], given[-1]
    batch, length = x.shape[0], allowed.shape[-1]
    mask: Tensor = torch.zeros(batch, heads, length, length, dtype=x.dtype, device=x.device)
    return (*given[:-1], mask.masked_fill_(~allowed, -torch.inf))


def dense_step(
    config: Config, ready: Ready, engine: Engine, batches: Iterator[Batch]
) -> np.ndarray:
    """One optimizer step; seconds waited, of audio, of padded audio, and targets."""
    corpus = ready.plan.corpus
    begin = time.perf_counter()
    held = [next(batches) for _ in range(ready.accumulation)]
    waited = time.perf_counter() - begin
    seconds = [corpus.seconds(batch.rows) for batch in held]
    targets = sum(int(config.model.targets(corpus, batch.rows).sum()) for batch in held)
    total = torch.zeros((), device=engine.processes.device)
    for batch in held:
        loss = engine.forward(batch.to(engine.processes.device))["loss"].sum()
        engine.backward(loss, 1 / targets, last=batch is held[-1])
        total += loss.detach().float()
    engine.step(1e-5)
    float(total)  # waits for the device, as runs do once a step
    padded = sum(len(own) * float(own.max()) for own in seconds)
    return np.array([waited, sum(float(own.sum()) for own in seconds), padded, targets])


def peak_memory(device: torch.device) -> int:
    """Bytes that the device, or this process on a CPU, held at most."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Run a side and print what it took."""
    side, path, steps, warm_up, count, *overrides = sys.argv[1:]
    keep_out()
    config = load(Path(path), [*overrides, f"train.steps={steps}"])
    device = choose_device(config.device, 1)
    ready = check(config, world_size=1, device=device, environ=os.environ)
    processes = join(device)
    try:
        if side == "segue":
            took = run_segue(config, ready, processes, int(warm_up))
        else:
            took = run_dense(config, ready, processes, int(steps), int(warm_up), int(count))
        print(json.dumps({**vars(took), "peak": peak_memory(processes.device)}))
    except torch.OutOfMemoryError:
        print(json.dumps({"out_of_memory": True}))
    end_process(0)


if __name__ == "__main__":
    main()
