"""``segue quickstart``: the whole path on synthesised speech, and what came of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import typer

from launch import local

CLIPS = 400


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
        typer.echo(f"for real: segue shards pack SPEECH.list SHARDS{demo.advice}")
        typer.echo(
            f"          segue launch configs/{demo.real} data.path=SHARDS run.name=NAME --nproc 8"
        )
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
