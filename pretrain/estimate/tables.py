"""An estimate as tables on the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table

from pretrain.component_table import describe
from pretrain.estimate.course import Stage
from pretrain.estimate.estimate import Estimate
from pretrain.estimate.memory import USABLE, Way
from pretrain.zero import NO_MASTERS

PARTS = ("weights", "gradients", "optimizer", "gathered", "buffers", "activations")


def show(found: Estimate) -> None:
    """Print all of it."""
    console = Console()
    console.print(describe(found.training, 0), markup=False, highlight=False)
    console.print(_course(found))
    for line in _about_batches(found):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(_memory(found))
    for line in _conclusions(found):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _course(found: Estimate) -> Table:
    table = _table("stage", "steps", "clips up to", "epochs", "hours", "clips a step", "padding")
    for stage in found.stages:
        table.add_row(*_stage(stage))
    table.title = f"{found.target:,} steps, {found.steps_per_epoch:,} in the first epoch"
    return table


def _stage(stage: Stage) -> Iterator[str]:
    limit = f"{stage.max_seconds:.1f} s" if math.isfinite(stage.max_seconds) else "any"
    yield from (str(stage.number), f"{stage.first:,} to {stage.last - 1:,}", limit)
    yield from (f"{stage.epochs:.2f}", f"{stage.hours:,.1f}", f"{stage.mean.clips:,.0f}")
    yield f"{stage.mean.padding:.1%}"


def _about_batches(found: Estimate) -> Iterator[str]:
    for one in found.largest:
        took = (
            f"{_gb(one.passes.peak)} of activations"
            if one.passes
            else ("what it takes cannot be told without running it: segue tune-batch does")
        )
        yield (
            f"largest micro-batch of bucket {one.bucket}: {one.clips} clips of up to "
            f"{one.longest:.1f} s: {took}"
        )


def _memory(found: Estimate) -> Table:
    table = _table("GB a process", *(way.name for way in found.memory))
    needs = found.memory.values()
    for part in PARTS:
        table.add_row(part, *(f"{getattr(need, part) / 1e9:.3f}" for need in needs))
    table.add_row("together", *(f"{need.device / 1e9:.3f}" for need in needs))
    table.add_row("on the host", *(f"{(need.host + need.copied) / 1e9:.3f}" for need in needs))
    table.add_row("", *("fits" if found.fits(need) else "too large" for need in needs))
    table.add_row("", *("smallest" if way == found.fitting else "" for way in found.memory))
    table.add_row("", *("set" if way == found.chosen else "" for way in found.memory))
    room = f"{USABLE:.0%} of {found.gpu_bytes / 1e9:,.0f} GB ({found.gpu})"
    table.title = f"{found.ranks} processes; to fit is to take no more than {room}"
    return table


def _conclusions(found: Estimate) -> Iterator[str]:
    if Way(0) not in found.memory:
        yield f"ZeRO-0 is not for precision=bf16: {NO_MASTERS}"
    if found.fitting is None:
        yield (
            "no way fits: lower the micro-batch (segue tune-batch finds the largest), or give more "
            "processes for what ZeRO partitions"
        )
    disk = found.disk
    yield (
        f"checkpoints: {disk.saved} of {_gb(disk.checkpoint)}, of which {disk.kept} stay; "
        f"{_gb(disk.most)} at most"
    )
    yield f"time: {_time(found)}"


def _time(found: Estimate) -> str:
    options = "--tokens-per-second or --hours-per-hour"
    if found.throughput is None:
        return f"give {options}, or train some steps first"
    if found.seconds is None:
        source = found.throughput.source
        return f"not of {source}, where {found.ranks} are asked for; give {options}"
    return f"{_duration(found.seconds)} at the throughput of {_source(found)}"


def _source(found: Estimate) -> str:
    assert found.throughput
    one = found.throughput
    if one.tokens_per_second:
        return f"{one.tokens_per_second:,.0f} tokens/s ({one.source})"
    return f"{one.hours_per_hour:,.1f} hours an hour ({one.source})"


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    if hours >= 48:
        return f"{hours // 24} days {hours % 24} h"
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"


def _gb(size: float) -> str:
    return f"{size / 1e9:.3f} GB"


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE, title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    return table
