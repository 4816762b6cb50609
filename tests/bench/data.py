"""Segue's stream beside plain webdataset, Lhotse Shar, litdata and mosaicml-streaming.

    make bench-data
All read the same clips on this machine in one run, turn by turn, each in its own format and a
process of its own; the table holds medians of the rounds. Figures go to WORK/data.json too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cpuinfo
from corpus import write_corpus
from rich.console import Console
from rich.table import Table

PEERS = Path(__file__).parent / "peers"
ENVIRONMENT = Path(".bench/peers/bin/python")


@dataclass(frozen=True)
class Contender:
    """A script, the Python that runs it, and one of its variants."""

    script: str
    python: Path
    variant: str = "default"

    def call(self, *arguments: str) -> list[str]:
        """The command line."""
        variant = [] if self.variant == "default" else ["--variant", self.variant]
        path = str(PEERS / self.script)
        return [str(self.python), "-W", "ignore", path, *arguments, *variant]


OURS = Path(sys.executable)
CONTENDERS = (
    Contender("segue_stream.py", OURS),
    Contender("webdataset_tar.py", OURS),
    Contender("lhotse_shar.py", ENVIRONMENT),
    Contender("litdata_chunks.py", ENVIRONMENT),
    Contender("mosaic_streaming.py", ENVIRONMENT),
    Contender("mosaic_streaming.py", ENVIRONMENT, "local"),
)
Figures = dict[str, Any]


def run(command: list[str]) -> Figures:
    """The JSON that a script prints last."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(
    work: Path, kind: str, clips: int, workers: int, epochs: int, rounds: int
) -> list[Figures]:
    """Each contender's median figures; for audio also what decoding alone takes."""
    shards = work / kind
    if not (shards / "index.arrow").exists():
        write_corpus(shards, kind, clips)
    for contender in CONTENDERS:
        prepare = contender.call("prepare", str(shards), str(work / "converted"), "--kind", kind)
        subprocess.run(prepare, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    how = ["--epochs", str(epochs), "--workers", str(workers)]
    commands = [
        one.call("run", str(work / "converted"), "--kind", kind, *how) for one in CONTENDERS
    ]
    if kind == "audio":
        commands.append([str(OURS), str(PEERS / "decoding.py"), "run", str(shards), *how])
    found: list[list[Figures]] = [[] for _ in commands]
    for _ in range(rounds):
        for number, command in enumerate(commands):
            found[number].append(run(command))
    return [median(measured) for measured in found]


def median(measured: list[Figures]) -> Figures:
    """The figures of one contender: medians of what was timed."""
    last = measured[-1]
    timed = {
        name: statistics.median(one[name] for one in measured)
        for name in ("core_seconds", "wall_seconds")
    }
    rates = {
        "clips_per_core_second": round(last["clips"] / timed["core_seconds"], 1),
        "clips_per_second": round(last["clips"] / timed["wall_seconds"], 1),
    }
    return last | timed | rates


def show(title: str, rows: list[Figures], by: str) -> None:
    """A table with ratios to the first row."""
    table = Table(
        "", "version", "clips/core-s", "clips/s", "padding", f"{by} of segue's", title=title
    )
    for row in rows:
        name = row["name"] + (
            ""
            if row.get("variant", "default") in {"default", "stream", "manifest"}
            else f" ({row['variant']})"
        )
        table.add_row(
            name,
            row["version"],
            f"{row['clips_per_core_second']:,.0f}",
            f"{row['clips_per_second']:,.0f}",
            f"{row['padding']:.1%}",
            f"{row[by] / rows[0][by]:.2f}",
        )
    Console(width=110).print(table)


def main() -> None:
    """Compare on token clips and on audio clips."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    processor = cpuinfo.get_cpu_info()["brand_raw"]
    print(f"{processor}; medians of {given.rounds} rounds", flush=True)
    tokens = compare(given.work, "tokens", 20_000, 0, 5, given.rounds)
    show("token clips, in the process itself", tokens, "clips_per_core_second")
    audio = compare(given.work, "audio", 1200, 2, 2, given.rounds)
    show("FLAC clips of 22.05 and 32 kHz, 2 workers", audio, "clips_per_second")
    result = {"processor": processor, "tokens": tokens, "audio": audio}
    (given.work / "data.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
