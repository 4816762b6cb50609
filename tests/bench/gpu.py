"""Training speed on one CUDA device, against dense masks and random batches of a fixed count.

    python tests/bench/gpu.py WORK [--steps N] [--tiny]

GPT-SoVITS s1 and Seed-VC small in bf16, each from a made-up corpus that lies in shards. The other
side trains the same model as the programs that they come from do: a float mask for every head, and
as many random clips a micro-batch as Segue's hold on average (half of them, and again, where that
does not fit). ``--tiny`` runs small models on the CPU, only to see that all of it works.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpus import write_corpus
from rich.console import Console
from rich.table import Table
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pretrain.config import Config, load
from pretrain.metrics.peaks import peak_flops
from shards.dataset import open_plan
from shards.plan import MicroBatch, Plan
from shards.stream import read_batch

SIDE = Path(__file__).with_name("gpu_side.py")
WARM_UP = 10
Figures = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A model to train, and the made-up corpus for it."""

    name: str
    config: str
    kind: str
    clips: int
    tiny: tuple[str, ...]


SMALL = ("device=cpu", "precision=fp32", "data.workers=1", "batch.buckets=4")
SUBJECTS = (
    Subject(
        "s1",
        "configs/gpt_sovits_s1.yaml",
        "tokens",
        20_000,
        (
            *("model.hidden_dim=64", "model.head=4", "model.n_layer=2"),
            *("data.max_seconds=15", "batch.seconds=60", "batch.micro_seconds=30"),
        ),
    ),
    Subject(
        "Seed-VC small",
        "configs/seed_vc_small.yaml",
        "voiced",
        3_000,
        (
            *("model.hidden_dim=64", "model.head=2", "model.n_layer=3"),
            *("model.wavenet.layers=2", "model.content_dim=64"),
            *("data.max_seconds=10", "batch.seconds=40", "batch.micro_seconds=20"),
        ),
    ),
)


def mean_count(plan: Plan) -> int:
    """Clips that a micro-batch of the run holds on average over an epoch."""
    clips = int(plan.census.totals.sum())
    return max(1, round(clips / (plan.step_at(1) * plan.micro_batches)))


def flops_per_second(plan: Plan, config: Config) -> float:
    """Forward and backward of one second of audio, counted on a clip of the mean length."""
    seconds = plan.corpus.seconds(np.arange(len(plan.corpus)))
    row = int(np.abs(seconds - seconds.mean()).argmin())
    micro = MicroBatch(0, 0, 0, np.array([row]))
    batch = read_batch(plan, config.model.fields(), micro, config.data)
    model = config.model.build()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(batch)["loss"].sum().backward()
    return counter.get_total_flops() / float(seconds[row])


def run_side(side: str, config: str, steps: int, warm_up: int, count: int, *more: str) -> Figures:
    """The figures of one side, from a process of its own."""
    words = [side, config, str(steps), str(warm_up), str(count), *more]
    done = subprocess.run(
        [sys.executable, str(SIDE), *words], check=True, stdout=subprocess.PIPE, text=True
    )
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(subject: Subject, work: Path, steps: int, *, tiny: bool) -> list[Figures]:
    """Both sides of a model, Segue's first."""
    shards = work / f"{subject.kind}{'_tiny' if tiny else ''}"
    if not (shards / "index.arrow").exists():
        write_corpus(shards, subject.kind, 200 if tiny else subject.clips)
    run = f"gpu_{subject.kind}"
    shutil.rmtree(work / "runs" / run, ignore_errors=True)
    places = (f"data.path={shards}", f"run.dir={work / 'runs'}", f"run.name={run}")
    places = (*places, "data.curriculum=[]")  # both sides take the same clips
    overrides = (*places, *((*SMALL, *subject.tiny) if tiny else ()))
    config = load(Path(subject.config), overrides)
    plan = open_plan(config.data, config.batch, config.seed)
    flops, count = flops_per_second(plan, config), mean_count(plan)
    warm_up = min(WARM_UP, steps // 2)
    told = (subject.config, steps, warm_up)
    ours = run_side("segue", *told, 0, *overrides)
    theirs: Figures = {"out_of_memory": True}
    while theirs.get("out_of_memory") and count:
        theirs = run_side("dense", *told, count, *overrides)
        label = f"dense masks, {count} random clips"
        count //= 2
    sides = (("Segue", ours), (label, theirs))
    return [{"model": subject.name, "side": side, "flops": flops, **one} for side, one in sides]


def report(rows: list[Figures], device: str) -> None:
    """A table; ``x`` is how many times faster than real time."""
    peak = peak_flops(device)
    table = Table(title=device, title_justify="left")
    for heading in ("model", "side", "targets/s", "x", "MFU", "wait", "peak GB", "padding"):
        table.add_column(heading)
    for row in rows:
        if row.get("out_of_memory"):
            table.add_row(row["model"], row["side"], "out of memory")
            continue
        speed = row["audio"] / row["seconds"]
        table.add_row(
            row["model"],
            row["side"],
            f"{row['targets'] / row['seconds']:,.0f}",
            f"{speed:,.0f}",
            f"{speed * row['flops'] / peak:.1%}" if peak else "-",
            f"{row['waited'] / row['seconds']:.1%}",
            f"{row['peak'] / 1e9:.2f}",
            f"{1 - row['audio'] / row['padded']:.1%}",
        )
    Console(width=110).print(table)


def main() -> None:
    """Train both models on both sides and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--tiny", action="store_true", help="small models on the CPU")
    given = parser.parse_args()
    if not given.tiny and not torch.cuda.is_available():
        print(
            "bench-gpu trains on one CUDA device, and torch sees none here; on a machine with one "
            "the same command runs it (--tiny tries the code on the CPU)"
        )
        return
    given.work.mkdir(parents=True, exist_ok=True)
    device = "CPU, tiny models" if given.tiny else torch.cuda.get_device_name()
    rows: list[Figures] = []
    for subject in SUBJECTS:
        rows += compare(subject, given.work, given.steps, tiny=given.tiny)
    report(rows, device)
    (given.work / "gpu.json").write_text(json.dumps({"device": device, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
