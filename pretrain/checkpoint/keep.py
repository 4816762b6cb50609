"""When checkpoints are saved and which are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field

from pretrain.checkpoint.manifest import Manifest
from pretrain.checkpoint.store import Store, newest
from shards.section import Section

VALIDATION_LOSS = "validation_loss"


class CheckpointConfig(Section):
    """``checkpoint``: where and how often a run saves, and what it keeps."""

    dir: str | None = Field(
        default=None,
        description="a folder or URL (s3://...) that gets a folder NAME of the run's checkpoints; "
        "left out, they are in the run's own folder",
    )

    every: int = Field(default=1000, ge=1, description="optimizer steps between checkpoints")
    keep_last: int = Field(default=2, ge=2, description="the newest ones, kept until others come")
    keep_every_steps: int | None = Field(
        default=None, ge=1, description="one at every multiple of so many steps is kept for good"
    )
    keep_every_epochs: float | None = Field(
        default=None, gt=0, description="one at the end of every so many epochs is kept for good"
    )
    keep_best: bool = Field(default=True, description="the one of the lowest validation loss")


@dataclass(frozen=True)
class Saved:
    """A committed checkpoint, as far as keeping it is concerned.

    Losses on the same ``held_out`` clips can be compared.
    """

    name: str
    step: int
    epoch: float
    validation_loss: float | None = None
    held_out: str = ""


def due(config: CheckpointConfig, step: int, epoch: float, epoch_before: float) -> bool:
    """Whether to save after ``step`` steps, at ``epoch``; one step before it was at ``before``."""
    steps = [config.every, config.keep_every_steps or config.every]
    return any(step % every == 0 for every in steps) or _window(config, epoch) > _window(
        config, epoch_before
    )


def next_due(
    config: CheckpointConfig, step: int, epoch: float, step_at: Callable[[float], int]
) -> int:
    """The step after ``step``, at ``epoch``, that saves next; ``step_at(epochs)`` is the nearest
    one to so many epochs.
    """
    steps = [config.every, config.keep_every_steps or config.every]
    times = [step + every - step % every for every in steps]
    if config.keep_every_epochs:
        ends = (_window(config, epoch) + 1) * config.keep_every_epochs
        times.append(max(step + 1, step_at(ends)))
    return min(times)


def _window(config: CheckpointConfig, epoch: float) -> int:
    # A step's epoch is a quotient: three halves of it may come out a hair below.
    return math.floor(epoch / config.keep_every_epochs + 1e-9) if config.keep_every_epochs else 0


def kept(config: CheckpointConfig, saved: Sequence[Saved]) -> frozenset[str]:
    """The names to keep of ``saved``, in any order."""
    by_step = sorted(saved, key=lambda one: one.step)
    chosen = {one.name for one in by_step[-config.keep_last :]}
    if config.keep_every_steps:
        chosen |= {one.name for one in by_step if one.step % config.keep_every_steps == 0}
    chosen |= {one.name for one in _first_of_windows(config, by_step)}
    judged = [
        one
        for one in by_step
        if one.validation_loss is not None and one.held_out == by_step[-1].held_out
    ]
    if config.keep_best and judged:
        chosen.add(min(judged, key=lambda one: one.validation_loss or 0.0).name)
    return frozenset(chosen)


def _first_of_windows(config: CheckpointConfig, by_step: Sequence[Saved]) -> Iterator[Saved]:
    last = 0
    for one in by_step:
        window = _window(config, one.epoch)
        if window > last:
            last = window
            yield one


def prune(store: Store, config: CheckpointConfig, damaged: Collection[str] = ()) -> None:
    """Remove what `kept` does not name, and what is damaged and older than the newest ones.

    ``damaged`` are names of those that are known to be so though their manifest is whole.
    """
    found = list(newest(store))
    saved = [
        _saved(name, one)
        for name, one in found
        if isinstance(one, Manifest) and name not in damaged
    ]
    whole, keep, newer = {one.name for one in saved}, kept(config, saved), 0
    for name, _ in found:
        newer += name in whole
        if name not in keep and (name in whole or newer >= config.keep_last):
            store.remove(name)


def _saved(name: str, manifest: Manifest) -> Saved:
    state = manifest.state
    loss = state.figures.get(VALIDATION_LOSS)
    return Saved(name, state.step, state.epoch, loss, state.held_out)
