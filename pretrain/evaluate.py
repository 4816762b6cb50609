"""``segue eval``: the scores of a checkpoint on shards of clips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pretrain.scores import Score
    from pretrain.weights.found import Weights

BATCH_SECONDS = 240.0
"""Padded audio of a forward pass; the scores do not depend on it."""

Place = Annotated[
    str,
    typer.Argument(help="A run, a checkpoint, or any file that init_from takes.", metavar="PATH"),
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
    from pretrain.weights.read import read_weights

    weights = read_weights(checkpoint, ema=ema)
    found = _scores(weights, data, None if split == "auto" else split, max_steps)
    if as_json:
        _print_json(weights.place, found)
    else:
        _print_table(weights.place, found)


def _scores(
    weights: Weights, data: str, split: str | None, max_steps: int | None
) -> Mapping[str, Score]:
    import torch

    from pretrain.held_out import opened_set
    from pretrain.preflight import choose_device
    from pretrain.validation import Alone, validate
    from pretrain.weights.importing import assumed, filled, recorded_model
    from shards.dataset import DataConfig, SourceConfig, open_corpus
    from shards.plan import BatchConfig

    family = recorded_model(weights)
    said = assumed(weights, family)
    if said:
        typer.echo(said, err=True)
    place, reading = SourceConfig(path=data), DataConfig(path=data)
    longest = max(float(one.index.seconds.max()) for one in open_corpus(reading).sources)
    seconds = max(BATCH_SECONDS, longest)
    batch = BatchConfig(seconds=seconds, micro_seconds=seconds)
    held = opened_set("data", (place,), split, max_steps, reading, batch, 0)
    family.check(held.plan.census)
    device = torch.device(choose_device("auto", 1))
    model = filled(family, weights).to(device).eval()
    with torch.inference_mode():
        found = validate(model, (held,), family, Alone(device))
    if found.failures:
        typer.echo(f"{len(found.failures)} clip(s) could not be read and are left out", err=True)
    return found.scores["data"]


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
