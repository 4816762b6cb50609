"""``segue quickstart``: the whole path on synthesised speech, and what came of it."""

from __future__ import annotations

import os
import shlex
from importlib.resources import files
from pathlib import Path
from statistics import mean, median

import typer
from rich.console import Console
from rich.table import Table

from launch import local

CLIPS = 400
NAME = "quickstart"
ENDS = 5
"""Steps averaged for the first and the last loss."""


def quickstart(folder: Path, processes: int | None) -> int:
    """Make or find the corpus in ``folder``, train or resume, print a summary; the exit code."""
    processes = processes or _default_processes()
    shards, runs = folder / "shards", folder / "runs"
    _make_corpus(shards)
    config = Path(str(files("configs").joinpath("quickstart.yaml")))
    if config.is_relative_to(Path.cwd()):
        config = config.relative_to(Path.cwd())
    overrides = [f"data.path={shards}", f"run.dir={runs}", f"run.name={NAME}"]
    code = local.launch(config, overrides, processes)
    if code == 0:
        resume = ["segue", "launch", str(config), *overrides, "--nproc", str(processes)]
        _summarise(runs / NAME, resume)
    return code


def _default_processes() -> int:
    import torch

    return 1 if torch.cuda.device_count() == 1 else 2


def _make_corpus(shards: Path) -> None:
    from shards.demo import speak_corpus
    from shards.pack.job import is_packed, pack

    if is_packed(shards):
        typer.echo(f"using the shards in {shards}")
        return
    workers = os.cpu_count() or 1
    typer.echo(f"speaking {CLIPS} clips with espeak-ng into {shards}")
    listed = speak_corpus(shards, clips=CLIPS, workers=workers)
    pack(listed, shards, workers=workers)


def _summarise(run: Path, resume: list[str]) -> None:
    from pretrain.checkpoint.store import LocalStore
    from pretrain.metrics import read_log

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
    typer.echo("for real: segue shards pack SPEECH.list SHARDS")
    typer.echo(
        "          segue launch configs/gpt_sovits_s1.yaml data.path=SHARDS run.name=NAME --nproc 8"
    )
