"""``segue quickstart``: the whole path on synthesised speech, and what came of it."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from statistics import mean, median

import typer
from rich.console import Console
from rich.table import Table

from launch import local

CLIPS = 400
ENDS = 5
"""Steps averaged for the first and the last loss."""


@dataclass(frozen=True)
class Demo:
    """What `quickstart` trains of a model family.

    ``config`` and ``real`` are config files, small and in full size; ``packing`` holds settings of
    the shards in ``shards``, ``advice`` what is said of packing for the full size.
    """

    config: str
    real: str
    shards: str
    packing: tuple[str, ...] = ()
    advice: str = ""

    @property
    def name(self) -> str:
        """The run's name."""
        return self.config.removesuffix(".yaml").removesuffix("_demo")


DEMOS = {
    "gpt_sovits_s1": Demo("quickstart.yaml", "gpt_sovits_s1.yaml", "shards"),
    "seed_vc": Demo(
        "seed_vc_demo.yaml",
        "seed_vc_small.yaml",
        "seed_vc",
        ("features=[content.mfcc,style.mean_mel]", "audio.store=flac", "validation=0.05"),
        " as docs/seed_vc.md says",
    ),
}


def quickstart(folder: Path, model: str, processes: int | None) -> int:
    """Make or find the corpus in ``folder``, train or resume, print a summary; the exit code."""
    processes, demo = processes or _default_processes(), DEMOS[model]
    shards, runs = folder / demo.shards, folder / "runs"
    _make_corpus(folder, shards, demo)
    config = Path(str(files("configs").joinpath(demo.config)))
    if config.is_relative_to(Path.cwd()):
        config = config.relative_to(Path.cwd())
    overrides = [f"data.path={shards}", f"run.dir={runs}", f"run.name={demo.name}"]
    code = local.launch(config, overrides, processes)
    if code == 0:
        resume = ["segue", "launch", str(config), *overrides, "--nproc", str(processes)]
        _summarise(runs / demo.name, resume, demo)
    return code


def _default_processes() -> int:
    import torch

    return 1 if torch.cuda.device_count() == 1 else 2


def _make_corpus(folder: Path, shards: Path, demo: Demo) -> None:
    from shards import settings
    from shards.demo import speak_corpus
    from shards.pack.config import PackConfig
    from shards.pack.job import is_packed, pack

    if is_packed(shards):
        typer.echo(f"using the shards in {shards}")
        return
    workers = os.cpu_count() or 1
    typer.echo(f"speaking {CLIPS} clips with espeak-ng into {folder}")
    listed = speak_corpus(folder, clips=CLIPS, workers=workers)
    typer.echo(f"packing them into {shards}")
    pack(listed, shards, settings.parsed(PackConfig, {}, "", demo.packing), workers=workers)


def _summarise(run: Path, resume: list[str], demo: Demo) -> None:
    from pretrain.checkpoint.store import LocalStore
    from pretrain.metrics.files import read_log

    log = read_log(run / "log.jsonl")
    losses = [record["loss"] for record in log if record["loss"] is not None]
    first, last = mean(losses[:ENDS]), mean(losses[-ENDS:])
    table = Table(title=f"{run}: {len(log)} steps", show_header=False)
    table.add_row(f"loss, first {ENDS} steps", f"{first:.3f}")
    table.add_row(f"loss, last {ENDS} steps", f"{last:.3f} ({last / first - 1:+.0%})")
    table.add_row("tokens/s, median", f"{median(r['tokens_per_second'] for r in log):,.0f}")
    table.add_row("padding", f"{mean(record['padding'] for record in log):.1%}")
    table.add_row("checkpoint", LocalStore(run / "checkpoints").names()[0])
    Console().print(table)
    typer.echo(f"watch:    tensorboard --logdir {shlex.quote(str(run / 'tensorboard'))}")
    typer.echo(f"resume:   {shlex.join(resume)}")
    typer.echo(f"further:  {shlex.join([*resume, 'train.steps=120'])}")
    typer.echo(f"for real: segue shards pack SPEECH.list SHARDS{demo.advice}")
    typer.echo(
        f"          segue launch configs/{demo.real} data.path=SHARDS run.name=NAME --nproc 8"
    )
