"""The command line that the peers' scripts share, the measurement and its JSON line."""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from padding import Batch
from reading import COUNTED, KINDS, Corpus, survey


@dataclass(frozen=True)
class Job:
    """A converted corpus and how to read it; preparing needs only what has no default."""

    folder: Path
    kind: str
    variant: str
    corpus: Corpus
    micro_seconds: float = 0
    epochs: int = 0
    workers: int = 0

    @property
    def count(self) -> int:
        """Clips of a micro-batch where a peer can only batch by a fixed count."""
        return max(1, int(self.micro_seconds * self.corpus.clips / self.corpus.seconds))


@dataclass(frozen=True)
class Peer:
    """A loader to measure."""

    name: str
    package: str
    prepare: Callable[[Path, Job], None]  # reads the folder of shards, writes the job's folder
    deliver: Callable[[Job], Iterator[Batch]]
    variants: tuple[str, ...] = ("default",)  # the first is the fastest honest choice


def core_seconds() -> float:
    """Processor time of this process, its threads and its ended children."""
    usage = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in usage)


def reap() -> None:
    """Wait for the loader's workers, so that their time counts."""
    gc.collect()
    for child in multiprocessing.active_children():
        child.join(timeout=30)
        if child.is_alive():
            raise RuntimeError(f"{child.name} outlived its loader")


def measure(peer: Peer, job: Job) -> dict[str, Any]:
    """Take all batches of a job and count them."""
    torch.set_num_threads(1)
    field = COUNTED[job.kind]
    clips = batches = padded = real = 0
    wall, core = time.perf_counter(), core_seconds()
    for batch in peer.deliver(job):
        lengths = batch[f"{field}_lengths"]
        batches += 1
        clips += len(lengths)
        real += int(lengths.sum())
        padded += batch[field].numel()
    wall = time.perf_counter() - wall
    reap()
    figures = {
        "clips": clips,
        "micro_batches": batches,
        "core_seconds": round(core_seconds() - core, 3),
        "wall_seconds": round(wall, 3),
        "padding": round(1 - real / padded, 5),
    }
    return figures | deviation(job, clips, real)


def deviation(job: Job, clips: int, real: int) -> dict[str, str]:
    """A note where not every clip came once in each epoch."""
    wanted, total = job.epochs * job.corpus.clips, job.epochs * job.corpus.elements
    if (clips, real) == (wanted, total):
        return {}
    return {"note": f"{clips} of {wanted} clips and {real} of {total} elements came"}


def arguments(peer: Peer, description: str | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    preparing = commands.add_parser("prepare", help="convert tar shards to the peer's format")
    preparing.add_argument("shards", type=Path, help="folder of tar shards")
    running = commands.add_parser("run", help="deliver all batches and print one JSON line")
    running.add_argument("--micro-seconds", type=float, default=160)
    running.add_argument("--epochs", type=int, default=1)
    running.add_argument("--workers", type=int, default=0)
    for command in (preparing, running):
        command.add_argument("work", type=Path, help="folder of converted corpora")
        command.add_argument("--kind", choices=KINDS, required=True)
        command.add_argument("--variant", choices=peer.variants, default=peer.variants[0])
    return parser.parse_args()


def command_line(peer: Peer, description: str | None) -> None:
    """Prepare a corpus, or run and print the figures."""
    given = arguments(peer, description)
    names = (peer.package, given.kind, given.variant)
    folder = given.work.resolve() / "-".join(names)
    if given.command == "prepare":
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        corpus = survey(given.shards, given.kind)
        peer.prepare(given.shards, Job(folder, given.kind, given.variant, corpus))
        corpus.save(folder)
        return
    reading = (given.micro_seconds, given.epochs, given.workers)
    job = Job(folder, given.kind, given.variant, Corpus.load(folder), *reading)
    head = {"name": peer.name, "variant": job.variant, "kind": job.kind, "workers": job.workers}
    print(json.dumps(head | measure(peer, job) | {"version": version(peer.package)}), flush=True)
