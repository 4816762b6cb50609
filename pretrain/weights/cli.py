"""``segue import`` and ``segue export``: weights in and out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from shards.errors import UserError

if TYPE_CHECKING:
    from pretrain.models.upstream import Translation
    from pretrain.weights.found import Weights

Format = Literal["gpt-sovits-s1", "seed-vc", "seed-vc-training", "safetensors"]
Dtype = Literal["fp32", "bf16", "fp16"]
_WRITTEN = ".safetensors"
_CONFIGS = (".yaml", ".yml")
_WRITERS = {
    "gpt-sovits-s1": "pretrain.weights.gpt_sovits_s1_release",
    "seed-vc": "pretrain.weights.seed_vc_release",
    "seed-vc-training": "pretrain.weights.seed_vc_training",
    "safetensors": "pretrain.weights.safetensors_write",
}


def import_weights(
    path: Annotated[
        str,
        typer.Argument(
            help="A file, folder or checkpoint; with --config and without --to, the file to write.",
            metavar="PATH",
        ),
    ],
    rest: Annotated[
        list[str] | None,
        typer.Argument(
            help="The safetensors file to write, and settings such as model.n_layer=24 or "
            "allow.depth.decoder=copy_last.",
            metavar="[OUT] [KEY.SUB=VALUE]",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="The model to compare with: gpt_sovits_s1, seed_vc, or module:Class of your own.",
            metavar="MODEL",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Upstream's or a run's config: sizes; without --to, to translate."),
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Show every parameter.")] = False,
    ema: Annotated[bool, typer.Option("--ema", help="The averages, not the weights.")] = False,
) -> None:
    """Show what weights are and how they fit a model, and write those that do.

    Or turn upstream's config into a run's: segue import --config FILE OUT
    """
    out, overrides = _divided(rest or [])
    if config is not None and to is None:
        if rest:
            raise UserError(f"command line: {rest[0]!r} goes with --to; write --config FILE OUT")
        _translate(config, Path(path))
        return
    from pretrain.weights.read import read_weights

    weights = read_weights(path, ema=ema)
    _show(weights)
    if to is not None:
        _fit(weights, to, config, overrides, out, report=report)
    elif rest:
        raise UserError(
            f"command line: {rest[0]!r} goes with a model; write --to gpt_sovits_s1 or another"
        )


def _divided(rest: Sequence[str]) -> tuple[Path | None, list[str]]:
    """OUT and the overrides; a file may have a = in its name."""
    files = [word for word in rest if "=" not in word or word.endswith(_WRITTEN)]
    if len(files) > 1:
        raise UserError(f"command line: {' '.join(files)} are several files; give one OUT")
    return Path(files[0]) if files else None, [word for word in rest if word not in files]


def _show(weights: Weights) -> None:
    from pretrain.weights.found import KINDS

    about = f", {weights.about}" if weights.about else ""
    typer.echo(f"{weights.place}: {KINDS[weights.kind]}{about}, {len(weights.tensors)} tensors")


def _fit(
    weights: Weights,
    to: str,
    file: Path | None,
    overrides: Sequence[str],
    out: Path | None,
    *,
    report: bool,
) -> None:
    from rich.console import Console

    from pretrain.weights.importing import assumed, compared, import_config, write
    from pretrain.weights.table import by_component, by_parameter

    config = import_config(weights, to, file, overrides)
    said = assumed(weights, config.model, overrides) if file is None else ""
    if said:
        typer.echo(said)
    fitted = compared(weights, config)
    if report:
        Console().print(by_parameter(fitted))
    Console().print(by_component(fitted))
    if fitted.complaint:
        raise UserError(f"{weights.place} does not fit {to}: {fitted.complaint}")
    if out is not None:
        write(fitted, config, out)
        typer.echo(f"{out}: {len(fitted.tensors)} tensors, fp32")


def _translate(file: Path, out: Path) -> None:
    from pretrain.weights.upstream_configs import write_run_config

    if out.exists() and out.suffix not in _CONFIGS:
        raise UserError(
            f"command line: --config without --to would write a run's config over {out}; name a "
            "new file, or add --to to compare weights"
        )
    translation = write_run_config(file, out)
    typer.echo(f"{out}: set run.name and data.path there or on the command line")
    for line in _told(translation):
        typer.echo(line)


def _told(translation: Translation) -> Sequence[str]:
    pairs = [
        theirs if theirs == ours else f"{theirs} as {ours}"
        for theirs, ours in translation.taken.items()
    ]
    return [
        f"taken over: {', '.join(pairs)}",
        f"upstream ignores: {', '.join(translation.ignored) or 'nothing of it'}",
        f"no counterpart: {', '.join(translation.left) or 'nothing'}",
    ]


def export(
    path: Annotated[
        str,
        typer.Argument(
            help="A run, a checkpoint, or any file that init_from takes.", metavar="PATH"
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            help="The file to write; for seed-vc-training it may be a folder.", metavar="OUT"
        ),
    ],
    to: Annotated[Format, typer.Option(help="The format.")] = "safetensors",
    dtype: Annotated[
        Dtype | None,
        typer.Option(help="What weights are rounded to; by default fp32, fp16 for gpt-sovits-s1."),
    ] = None,
    ema: Annotated[bool, typer.Option("--ema", help="The averages, not the weights.")] = False,
) -> None:
    """Write weights as one file, for other programs."""
    from importlib import import_module

    from pretrain.weights.read import read_weights

    weights = read_weights(path, ema=ema)
    kind = dtype or ("fp16" if to == "gpt-sovits-s1" else "fp32")
    written = import_module(_WRITERS[to]).export(weights, out, kind)
    about = f" of {weights.about}" if weights.about else ""
    typer.echo(f"{written}: {len(weights.tensors)} tensors{about}, {to}, {kind}")
