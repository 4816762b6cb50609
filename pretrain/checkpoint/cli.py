"""``segue checkpoint``: look at checkpoints, check and compare them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated

import typer

from shards.commands import commands
from shards.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from pretrain.checkpoint.manifest import Manifest

app = commands("Look at a run's checkpoints, check and compare them.")

Run = Annotated[
    str, typer.Argument(help="A run's folder, or a URL of its checkpoints.", metavar="RUN")
]
Place = Annotated[
    str,
    typer.Argument(help="A checkpoint's folder or URL, or a run's for its newest.", metavar="PATH"),
]


@app.command(name="ls")
def list_all(run: Run) -> None:
    """List a run's checkpoints, the newest first."""
    from rich.console import Console

    from pretrain.checkpoint.location import store_of
    from pretrain.checkpoint.manifest import DamageError
    from pretrain.checkpoint.store import newest

    store = store_of(run)
    table = _table("checkpoint", "step", "epoch", "ranks", "size", "state")
    for name, found in newest(store):
        if isinstance(found, DamageError):
            table.add_row(name, "", "", "", "", f"damaged: {found}")
            continue
        state = found.state
        cells = (str(state.step), f"{state.epoch:.3f}", str(found.world_size), _size(found))
        table.add_row(name, *cells, "committed")
    if not table.row_count:
        raise UserError(f"RUN: {run} has no checkpoints; name a run's folder, such as runs/NAME")
    Console().print(table)


@app.command()
def show(path: Place) -> None:
    """Show what a checkpoint records of itself."""
    from rich.console import Console

    from pretrain.checkpoint.location import opened

    store, name, manifest = opened(path)
    state = manifest.state
    numbers = sum(_count(shape) for shape in state.shapes.values())
    typer.echo(store.place(name))
    table = _table("", "", head=False)
    table.add_row("step, epoch", f"{state.step:,}, {state.epoch:.4f}")
    table.add_row("updates", f"{state.updates:,}")
    table.add_row(
        "trained on", f"{state.seen.clips:,} clips, {state.seen.seconds / 3600:,.2f} hours"
    )
    table.add_row("started at steps", ", ".join(map(str, state.starts)) or "unknown")
    table.add_row("parameters", f"{numbers:,} in {len(state.shapes):,} tensors")
    table.add_row("frozen", f"{len(manifest.frozen):,} tensors")
    table.add_row("states", ", ".join(sorted(_states(manifest))))
    table.add_row(
        "files", f"{len(manifest.files)} by {manifest.world_size} ranks, {_size(manifest)}"
    )
    table.add_row("versions", ", ".join(f"{key} {value}" for key, value in state.versions.items()))
    for key, value in {**state.figures, **state.fingerprint}.items():
        table.add_row(key, str(value))
    Console().print(table)


@app.command()
def verify(path: Place) -> None:
    """Read every byte of a checkpoint and compare with its checksums."""
    from pretrain.checkpoint.location import opened
    from pretrain.checkpoint.manifest import DamageError
    from pretrain.checkpoint.restore import check_files

    store, name, manifest = opened(path)
    try:
        check_files(store, name, manifest.files.items())
    except DamageError as damage:
        raise UserError(
            f"PATH: {store.place(name)} is damaged ({damage}); a run goes on with the one before"
        ) from damage
    typer.echo(f"{store.place(name)}: {_size(manifest)} read, all as it was saved")


@app.command()
def diff(
    before: Place,
    after: Place,
    depth: Annotated[
        int, typer.Option(min=1, help="Parts of a parameter's name that make a component.")
    ] = 2,
) -> None:
    """Compare the weights of two checkpoints, component by component."""
    from rich.console import Console

    from pretrain.checkpoint.compare import differences
    from pretrain.checkpoint.location import opened

    one, other = opened(before), opened(after)
    norms: dict[str, float] = defaultdict(float)
    changes: dict[str, float] = defaultdict(float)
    for parameter, norm, change in differences(one, other):
        component = ".".join(parameter.split(".")[:depth])
        norms[component] += norm**2
        changes[component] += change**2
    table = _table("component", "norm", "change", "relative change")
    for component, squared in norms.items():
        norm, change = squared**0.5, changes[component] ** 0.5
        relative = f"{change / norm:.3e}" if norm else "from zero" if change else "0"
        table.add_row(component, f"{norm:.4g}", f"{change:.4g}", relative)
    alone = {*one[2].state.shapes.items()} ^ {*other[2].state.shapes.items()}
    for parameter in sorted({name for name, _ in alone}):
        table.add_row(parameter, "", "", "in one of them only, or of another shape")
    Console().print(table)


def _states(manifest: Manifest) -> set[str]:
    return {key for pieces in manifest.pieces.values() for key in pieces[0].offsets}


def _size(manifest: Manifest) -> str:
    from rich.filesize import decimal

    return decimal(sum(total.bytes for total in manifest.files.values()))


def _count(shape: tuple[int, ...]) -> int:
    from math import prod

    return prod(shape)


def _table(*columns: str, head: bool = True) -> Table:
    from rich import box
    from rich.table import Table

    return Table(*columns, box=box.SIMPLE, show_header=head)
