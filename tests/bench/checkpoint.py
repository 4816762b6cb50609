"""Saving and restoring against DeepSpeed's own, and against writing the same bytes plainly.

    accelerate launch --config_file configs/accelerate/zero2.yaml --num_processes 2 \
        tests/bench/checkpoint.py FOLDER

A model of 77 million parameters. ``stopped`` is how long the loop stands still: when it begins a
save, and if the copy is not done before the next update, after one short micro-batch. ``total`` is
a save from beginning to commit, with nothing beside it. Restoring reads what was just written;
to check is to read every byte before, for its checksum, which DeepSpeed does not.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pretrain.checkpoint.keep import CheckpointConfig
from pretrain.checkpoint.manifest import Manifest, State
from pretrain.checkpoint.rank_file import HostCopy, bytes_of
from pretrain.checkpoint.restore import newest_valid, restore
from pretrain.checkpoint.saver import Saver
from pretrain.checkpoint.store import LocalStore, read_manifest
from pretrain.engine import Engine, join
from pretrain.fragment import Fragment
from pretrain.groups import OptimizerConfig, parameter_groups
from pretrain.models.gpt_sovits_s1.config import S1Config
from pretrain.processes import Processes, end_process
from pretrain.zero import DeepSpeedConfig, settle
from shards.collate import Batch

ROUNDS = 6
PRUNED = 1.0  # seconds in which older checkpoints are removed
BLOCK = 8 << 20


def timed(processes: Processes, work: Callable[[], object]) -> float:
    """Seconds until the slowest rank is done."""
    processes.barrier()
    start = time.perf_counter()
    work()
    return processes.largest(time.perf_counter() - start)


def written_plainly(path: Path, content: memoryview) -> None:
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(content), BLOCK):
            file.write(content[start : start + BLOCK])
        os.fsync(file.fileno())


def copied_alone(copy: HostCopy, fragments: list[Fragment]) -> None:
    copy.begin(fragments, "")
    copy.wait()


def forget_cached(processes: Processes, folder: Path) -> None:
    """Have the system forget what it holds of the files, as after a restart elsewhere."""
    os.sync()
    processes.barrier()
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def saved(saver: Saver, fragments: list[Fragment], state: State) -> None:
    saver.save(fragments, state)
    saver.settle()


def short_batch() -> Batch:
    """Two clips of 5 s."""
    lengths = {"phonemes": 60, "semantic": 125}
    return Batch(
        step=0,
        index=0,
        keys=("a", "b"),
        rows=np.arange(2),
        arrays={name: torch.randint(0, 500, (2, length)) for name, length in lengths.items()},
        lengths={name: torch.tensor([length, length]) for name, length in lengths.items()},
    )


def forward_and_backward(engine: Engine, batch: Batch) -> None:
    engine.backward(engine.forward(batch)["loss"].sum(), 0.0, last=False)


def main() -> None:
    folder = Path(sys.argv[1])
    processes = join("cpu")
    processes.first(lambda: shutil.rmtree(folder / "segue", ignore_errors=True))
    config, optimizer = S1Config(), OptimizerConfig()
    model = config.build()
    engine = Engine(
        model,
        parameter_groups([(name, p.ndim) for name, p in model.named_parameters()], optimizer),
        processes,
        optimizer=optimizer,
        zero=settle(DeepSpeedConfig(), os.environ),
        precision="bf16",
        accumulation=1,
    )
    fragments = list(engine.owned())
    size = sum(4 * state.numel() for one in fragments for state in one.states.values())
    content = bytes_of(torch.rand(size // 4))
    store = LocalStore(folder / "segue")
    copy = HostCopy(fragments)
    batch = short_batch()
    saver = Saver(store, processes, CheckpointConfig(), fragments, lambda _: None)
    rows: dict[str, list[float]] = defaultdict(list)
    for number in range(1, ROUNDS + 1):
        first, second = (
            State(step=step, epoch=0.0, updates=1, fingerprint={}, shapes=engine.shapes)
            for step in (2 * number, 2 * number + 1)
        )
        forward_and_backward(engine, batch)
        processes.barrier()
        begin = time.perf_counter()
        saver.save(fragments, first)
        stopped = time.perf_counter() - begin
        forward_and_backward(engine, batch)
        passed = time.perf_counter()
        rows["one short micro-batch"].append(processes.largest(passed - begin - stopped))
        saver.wait_for_copy()
        stopped += time.perf_counter() - passed
        rows["stopped"].append(processes.largest(stopped))
        saver.settle()
        time.sleep(PRUNED)
        rows["total"].append(timed(processes, partial(saved, saver, fragments, second)))
        rows["copy alone"].append(timed(processes, partial(copied_alone, copy, fragments)))
        plain = folder / f"plain{processes.rank}"
        rows["plain"].append(timed(processes, partial(written_plainly, plain, content)))
        theirs = str(folder / "deepspeed")
        tag = f"step{number}"
        rows["deepspeed"].append(
            timed(processes, partial(engine.deepspeed.save_checkpoint, theirs, tag=tag))
        )

        def filled(name: str, manifest: Manifest) -> None:
            restore(store, name, manifest, engine.held())
            engine.restored(1)

        def checked_and_filled() -> None:
            found = newest_valid(store, processes, print)
            assert found is not None
            filled(found.name, found.manifest)

        manifest = read_manifest(store, second.name)
        sides = {
            "restore": partial(filled, second.name, manifest),
            "check and restore": checked_and_filled,
            "deepspeed restore": partial(engine.deepspeed.load_checkpoint, theirs, tag=tag),
        }
        for temperature in ("cold", "warm"):
            for place in range(len(sides)):  # the disk may be slower just after it was written
                name = list(sides)[(place + number) % len(sides)]
                if temperature == "cold":
                    forget_cached(processes, folder)
                rows[f"{name}, {temperature}"].append(timed(processes, sides[name]))
        processes.barrier()
        if processes.rank == 0:
            shutil.rmtree(theirs)
        plain.unlink()
    if processes.rank == 0:
        report(rows, size * processes.world_size)
    end_process(0)


def report(rows: dict[str, list[float]], size: int) -> None:
    middle = {name: statistics.median(values) for name, values in rows.items()}
    print(f"{size / 1e6:,.0f} MB, {torch.get_num_threads()} threads a rank, medians of {ROUNDS}")
    for name, seconds in middle.items():
        print(f"{name:25} {seconds:7.3f} s  {size / 1e6 / seconds:8.0f} MB/s")
    print(f"stopped / deepspeed          {middle['stopped'] / middle['deepspeed']:.3f}")
    print(f"plain / total (write rate)   {middle['plain'] / middle['total']:.2f}")
    for temperature in ("cold", "warm"):
        theirs = middle[f"deepspeed restore, {temperature}"]
        for name in ("restore", "check and restore"):
            ratio = middle[f"{name}, {temperature}"] / theirs
            print(f"{name} / deepspeed restore, {temperature}  {ratio:.2f}")


if __name__ == "__main__":
    main()
