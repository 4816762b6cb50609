"""Continue on other voices what was pretrained on some: what is learnt and what is forgotten.

    python tests/bench/forgetting.py FOLDER

Speaks a corpus, pretrains a small s1 on its English voices, hands it over as a release file of
upstream's, and continues on its Mandarin voices in several ways. Every run validates on held-out
voices of both. Prints a table and writes a plot beside the runs. Run again, it goes on.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from line_plot import Line, line_plot

from shards.demo import speak_corpus

CLIPS = 1200
PRETRAINING, CONTINUATION = 240, 120
SETTINGS = (
    "batch.seconds=240",
    "batch.micro_seconds=60",
    "validation.every=10",
    "checkpoint.every=40",
    "schedule.floor=0.1",
)
CONFIG = Path("configs/quickstart.yaml")


@dataclass(frozen=True)
class Way:
    """A way to continue."""

    name: str
    replay: float
    settings: tuple[str, ...]


FULL, LOW = "optimizer.lr=2e-3", "optimizer.lr=5e-4"
WAYS = (
    Way("full rate, no warm-up", 0.0, (FULL, "schedule.warmup_steps=0")),
    Way("full rate, warm-up", 0.0, (FULL, "schedule.warmup_steps=30")),
    Way("low rate, warm-up", 0.0, (LOW, "schedule.warmup_steps=30")),
    Way("full rate, warm-up, replay", 0.25, (FULL, "schedule.warmup_steps=30")),
    Way("low rate, warm-up, replay", 0.25, (LOW, "schedule.warmup_steps=30")),
    Way(
        "low rate, warm-up, distillation",
        0.0,
        (LOW, "schedule.warmup_steps=30", "distill.weight=0.5"),
    ),
)


def segue(*arguments: object) -> None:
    subprocess.run(
        [Path(sys.executable).with_name("segue"), *map(str, arguments)], check=True, text=True
    )


def packed(folder: Path) -> tuple[Path, Path]:
    """Shards of the English and of the Mandarin voices, with one codebook."""
    lines = speak_corpus(folder, clips=CLIPS, workers=2).read_text("utf-8").splitlines()
    old, new = folder / "old", folder / "new"
    for shards, language in ((old, "EN"), (new, "ZH")):
        listing = folder / f"{language}.list"
        listing.write_text("\n".join(one for one in lines if one.split("|")[2] == language) + "\n")
        if shards == new:
            new.mkdir(exist_ok=True)
            shutil.copy(old / "units_mfcc.npz", new)
        segue("shards", "pack", listing, shards, "validation=0.15")
    return old, new


def trained(run: Path, steps: int, settings: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
    """The run's validation losses, by set, as (step, loss)."""
    where = (f"run.dir={run.parent}", f"run.name={run.name}", f"train.steps={steps}")
    segue("launch", CONFIG, *SETTINGS, *where, *settings, "--nproc", 2)
    found: dict[str, list[tuple[int, float]]] = {}
    for line in (run / "validation.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["group"] == "all":
            found.setdefault(record["set"], []).append((record["step"], record["loss"]))
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    old, new = packed(folder)
    both = f"validation.sources=[{{path: {new}}}]"
    begun = trained(
        folder / "runs" / "pretraining",
        PRETRAINING,
        (f"data.path={old}", "optimizer.lr=2e-3", both),
    )
    release = folder / "pretrained.ckpt"
    segue("export", folder / "runs" / "pretraining", release, "--to", "gpt-sovits-s1")
    before = begun["validation"][-1][1], begun["new"][-1][1]
    print("\n| | new voices at best | at step | old voices then | new at the end | old then |")
    print("|---|---|---|---|---|---|")
    print(f"| before | {before[1]:.3f} | | {before[0]:.3f} | | |")
    lines = []
    for number, way in enumerate(WAYS):
        replay = f", {{path: {old}, repeat: {way.replay}}}" if way.replay else ""
        found = trained(
            folder / "runs" / f"way{number}",
            CONTINUATION,
            (
                "data.path=null",
                f"data.sources=[{{path: {new}, name: new}}{replay}]",
                f"validation.sources=[{{path: {old}, name: kept}}, {{path: {new}, name: gained}}]",
                f"init_from={release}",
                *way.settings,
            ),
        )
        kept, gained = found["kept"], found["gained"]
        step, best = min(gained, key=lambda point: point[1])
        then, ends = dict(kept)[step], (gained[-1][1], kept[-1][1])
        told = (f"{best:.3f}", str(step), f"{then:.3f}", *(f"{loss:.3f}" for loss in ends))
        print(f"| {way.name} | {' | '.join(told)} |", flush=True)
        lines += [Line(way.name, "old voices", kept), Line(way.name, "new voices", gained)]
    (folder / "forgetting.svg").write_text(line_plot(lines, "step", "validation loss"))


if __name__ == "__main__":
    main()
