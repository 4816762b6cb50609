"""``segue tune-batch``: the largest micro-batch that fits, found by trying."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pretrain.arguments import ConfigFile, Machines, Overrides, ProcessesEach

if TYPE_CHECKING:
    from pretrain.tune.search import Fit
    from pretrain.tune.tune import Tuner


def tune_batch(
    config: ConfigFile,
    overrides: Overrides = None,
    nproc: ProcessesEach = 1,
    nodes: Machines = 1,
    memory: Annotated[
        float | None,
        typer.Option(
            min=1e-3,
            metavar="GB",
            help="What a process may hold; else the GPU's memory, or half of this machine's free.",
        ),
    ] = None,
) -> None:
    """Find the largest micro-batch that fits, for each bucket of clip length, by trying.

    Forward and backward passes of real clips run in one process on the device here; what the
    run's weights, optimizer states and buffers will take beside them is counted.
    """
    from pretrain.tune.search import largest_budget
    from pretrain.tune.tune import tuner
    from shards.errors import UserError

    ranks = nproc * nodes
    found = tuner(config, overrides or [], ranks, memory)
    typer.echo(
        f"{found.room / 1e9:.2f} GB on {found.device.type} are left for a micro-batch", err=True
    )
    fits = list(found.fits())
    _show(found, fits)
    budget = found.config.batch.budget
    micro = largest_budget(budget, ranks, fits)
    if micro is None:
        raise UserError(
            f"a micro-batch of one clip of {fits[0].seconds:.1f} s is too large for this memory; "
            "leave long clips out with data.max_seconds, or make the model smaller"
        )
    typer.echo(f"{budget.micro_option}={micro:.10g}")
    if micro >= budget.step / ranks * 0.99:
        typer.echo(
            f"it is all that {ranks} processes can share of {budget.step_option}="
            f"{budget.step:g}: more may fit",
            err=True,
        )


def _show(found: Tuner, fits: list[Fit]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    option = found.config.batch.budget.micro_option
    table = Table(box=box.SIMPLE)
    for heading in ("bucket", "clips up to", "clips", "padded", option, "peak"):
        table.add_column(heading, justify="right")
    for fit in fits:
        table.add_row(
            str(fit.bucket),
            f"{fit.seconds:.1f} s",
            f"{fit.clips:,}",
            f"{fit.clips * fit.seconds:,.0f} s",
            f"{fit.clips * fit.cost:,.1f}",
            f"{fit.peak / 1e9:.3f} GB",
        )
    Console().print(table)
