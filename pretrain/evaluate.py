"""``segue eval``: the scores of a checkpoint on shards of clips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from shards.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pretrain.checkpoint.manifest import Manifest
    from pretrain.checkpoint.store import Store
    from pretrain.config import Config
    from pretrain.scores import Score

Place = Annotated[
    str,
    typer.Argument(help="A checkpoint's folder or URL, or a run's for its newest.", metavar="PATH"),
]


def evaluate(
    checkpoint: Place,
    data: Annotated[str, typer.Argument(help="Folder or URL of shards.", metavar="DATA")],
    split: Annotated[
        Literal["auto", "validation", "train", "all"],
        typer.Option(help="Which clips; auto: those set apart, or all where none are."),
    ] = "auto",
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="At most so many steps' worth of clips.")
    ] = None,
    ema: Annotated[bool, typer.Option("--ema", help="The averages, not the weights.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure loss and the model's other terms on clips, by source, language and length."""
    from pretrain.checkpoint.location import opened

    store, name, manifest = opened(checkpoint)
    found = _scores(store, name, manifest, data, split, max_steps, ema=ema)
    if as_json:
        _print_json(store.place(name), found)
    else:
        _print_table(store.place(name), found)


def _scores(
    store: Store,
    name: str,
    manifest: Manifest,
    data: str,
    split: str,
    max_steps: int | None,
    *,
    ema: bool,
) -> Mapping[str, Score]:
    import torch

    from pretrain.checkpoint.restore import filled
    from pretrain.preflight import choose_device
    from pretrain.validation import Alone, opened_set, validate
    from shards.dataset import SourceConfig

    config = _recorded(store.place(name), manifest)
    reading = config.data.model_copy(update={"filter": None})
    chosen = None if split == "auto" else split
    held = opened_set(
        "data", (SourceConfig(path=data),), chosen, max_steps, reading, config.batch, config.seed
    )
    config.model.check(held.plan.census)
    device = torch.device(choose_device("auto", 1))
    model = filled(config.model.build(), store, name, manifest, ema=ema).to(device).eval()
    with torch.inference_mode():
        return validate(model, (held,), config.model, Alone(device))["data"]


def _recorded(place: str, manifest: Manifest) -> Config:
    from pydantic import ValidationError

    from pretrain.config import Config

    try:
        return Config.model_validate(manifest.state.config)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{place}: the config recorded there does not fit this version ({key}: "
            f"{first['msg'].lower()}); continue its run once, or use the version that wrote it"
        ) from error


def _print_json(place: str, found: Mapping[str, Score]) -> None:
    import json

    groups = {
        group: {"clips": score.clips, "targets": score.targets, **score.terms}
        for group, score in found.items()
    }
    typer.echo(json.dumps({"checkpoint": place, "groups": groups}))


def _print_table(place: str, found: Mapping[str, Score]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    terms = list(next(iter(found.values())).terms)
    table = Table("clips of", "clips", "targets", *terms, box=box.SIMPLE)
    for group, score in found.items():
        values = (f"{score.terms[term]:.4f}" for term in terms)
        table.add_row(group, f"{score.clips:,}", f"{score.targets:,}", *values)
    typer.echo(place)
    Console().print(table)
