"""How much of a micro-batch is padding, how random the order stays and how even the work is.

    python tests/bench/padding.py [--clips N]
Lengths are log-normal (median 6 s, sigma 0.7, 1 to 54 s), micro-batches hold 160 padded seconds;
who batches by a fixed count takes as many clips as fit on average.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from corpus import CLIPS_PER_SHARD, lengths
from data import ENVIRONMENT, PEERS
from rich.console import Console
from rich.table import Table

from shards.corpus import Corpus, Source
from shards.index import Index, ShardFacts
from shards.index_writer import write_columns
from shards.plan import BatchConfig, Plan

MICRO_SECONDS = 160.0
MICRO_BATCHES = 8
Batches = list[np.ndarray]


def plan_over(seconds: np.ndarray) -> Plan:
    """Segue's plan over clips of these lengths."""
    starts = range(0, len(seconds), CLIPS_PER_SHARD)
    shards = [
        ShardFacts(f"{n:06d}.tar", len(seconds[start : start + CLIPS_PER_SHARD]), 0, 0)
        for n, start in enumerate(starts)
    ]
    table = pa.table({"seconds": seconds})
    about = {"lengths": [], "largest": {}, "digest": ""}
    with tempfile.TemporaryDirectory() as folder:
        write_columns(Path(folder), table, shards, about)
        corpus = Corpus([Source("made up", Index.open(Path(folder)))])
    budget = BatchConfig(seconds=MICRO_BATCHES * MICRO_SECONDS, micro_seconds=MICRO_SECONDS)
    return Plan(corpus, seed=0, batch=budget)


def epoch(plan: Plan, number: int) -> list[Batches]:
    """The rows of each micro-batch of each step."""
    steps = range(plan.step_at(number), plan.step_at(number + 1))
    return [
        [micro.rows for micro in plan.share(plan.step(step)) if micro.counted] for step in steps
    ]


def fixed_count(seconds: np.ndarray, order: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Batches of one count from each run of clips."""
    count = int(MICRO_SECONDS / seconds.mean())
    for rows in order:
        yield from (rows[n : n + count] for n in range(0, len(rows), count))


def two_second_buckets(seconds: np.ndarray, chance: np.random.Generator) -> Iterator[np.ndarray]:
    """GPT-SoVITS's sampler: a fixed count of clips from one bucket of 2 seconds."""
    buckets = (seconds // 2).astype(int)
    runs = (chance.permutation(np.flatnonzero(buckets == n)) for n in np.unique(buckets))
    return fixed_count(seconds, runs)


def padding(seconds: np.ndarray, batches: Iterable[np.ndarray]) -> tuple[float, float]:
    """The padded share, and the largest batch's padded seconds."""
    padded = [len(rows) * float(seconds[rows].max()) for rows in batches]
    return 1 - float(seconds.sum(dtype=np.float64)) / sum(padded), max(padded)


def lhotse(seconds: np.ndarray) -> dict[str, float]:
    """What Lhotse's DynamicBucketingSampler pads, by buckets."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        asked = {"seconds": seconds.tolist(), "micro_seconds": MICRO_SECONDS, "seed": 0}
        json.dump(asked, file)
        file.flush()
        command = [str(ENVIRONMENT), "-W", "ignore", str(PEERS / "padding_lhotse.py"), file.name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    said = json.loads(done.stdout.splitlines()[-1])
    return {name: said[name]["padding"] for name in ("buckets_30", "buckets_16")}


def randomness(plan: Plan) -> tuple[float, float]:
    """Rank correlation of length with place in an epoch; clip pairs met again in the next."""
    seconds = plan.corpus.seconds(np.arange(len(plan.corpus)))
    epochs = [[rows for step in epoch(plan, number) for rows in step] for number in range(2)]
    means = [float(seconds[rows].mean()) for rows in epochs[0]]
    ranks = np.argsort(np.argsort(means))
    met = [_pairs(batches) for batches in epochs]
    correlation = float(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1])
    return correlation, len(met[0] & met[1]) / len(met[0])


def _pairs(batches: Batches) -> set[tuple[int, int]]:
    ordered = [np.sort(rows).tolist() for rows in batches]
    return {(a, b) for rows in ordered for n, a in enumerate(rows) for b in rows[n + 1 :]}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=30_000)
    given = parser.parse_args()
    seconds = lengths(given.clips)
    plan, chance = plan_over(seconds), np.random.default_rng(0)
    steps = epoch(plan, 0)
    everything = [chance.permutation(len(seconds))]
    compared = {
        "Segue, 16 buckets": padding(seconds, [rows for step in steps for rows in step]),
        "fixed count, random": padding(seconds, fixed_count(seconds, everything)),
        "GPT-SoVITS, buckets of 2 s": padding(seconds, two_second_buckets(seconds, chance)),
    }
    table = Table("", "padding", "largest micro-batch", title=f"{given.clips:,} clips")
    for name, (share, largest) in compared.items():
        table.add_row(name, f"{share:.2%}", f"{largest:.0f} s")
    for name, share in lhotse(chance.permutation(seconds)).items():  # as if well mixed
        table.add_row(f"Lhotse DynamicBucketingSampler, {name}", f"{share:.2%}", "")
    Console().print(table)
    costs = [[len(rows) * float(seconds[rows].max()) for rows in step] for step in steps[:-1]]
    uneven = [max(step) / float(np.mean(step)) for step in costs]
    correlation, again = randomness(plan)
    heaviest = f"{np.mean(uneven):.3f}, at most {max(uneven):.3f}"
    print(f"heaviest micro-batch of a step over the mean: {heaviest}")
    print(f"rank correlation of length and place in the epoch: {correlation:+.3f}")
    print(f"pairs of clips that share a micro-batch and do again in the next epoch: {again:.2%}")


if __name__ == "__main__":
    main()
