"""Training more from a step on: weights and moments go over to a new partition in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pretrain.checkpoint.manifest import EMA, MASTER
from pretrain.config import Config
from pretrain.engine import Engine
from pretrain.fragment import Fragment
from pretrain.groups import Group
from pretrain.processes import Processes
from pretrain.saving import Saving
from pretrain.start import Course, Say, say_what_trains


@dataclass(frozen=True)
class Kept:
    """A fragment that ``rank`` keeps in host memory: ``states`` are the keys, in order."""

    name: str
    start: int
    size: int
    states: tuple[str, ...]
    rank: int


def thaw(
    config: Config, course: Course, step: int, engine: Engine, saving: Saving, say: Say
) -> None:
    """Let train, from ``step`` on, what the course says then. All ranks call together."""
    saving.release()
    hand_over(engine, config.model.build, course.training.groups(step))
    saving.go_on()
    say_what_trains(course, step, engine, say)


def hand_over(engine: Engine, build: Callable[[], nn.Module], groups: Sequence[Group]) -> None:
    """Let ``engine`` train ``groups`` of a model that ``build`` makes, with the weights it has.

    What it had is released before. Masters and averages go on bit for bit, and so do the moments
    of what trained and still does. What begins to train has moments of zero and averages that
    begin at the weights. Adam's bias correction counts the updates of the engine, as it does after
    a restore.
    """
    updates = engine.updates
    kept = {(one.name, one.start): _on_host(one) for one in engine.owned() if one.size}
    engine.release()
    engine.wrap(build(), groups)
    fill(engine.held(), kept, engine.processes)
    engine.restored(updates)


def fill(
    held: Iterable[Fragment], kept: dict[tuple[str, int], Fragment], processes: Processes
) -> None:
    """Fill every state of ``held`` from what all ranks have in ``kept``, emptying that.

    One rank's share of one parameter travels at a time.
    """
    targets: dict[str, list[Fragment]] = defaultdict(list)
    for fragment in held:
        targets[fragment.name].append(fragment)
    told = [
        Kept(one.name, one.start, one.size, tuple(one.states), processes.rank)
        for one in kept.values()
    ]
    for piece in sorted(
        (piece for share in processes.gather(told) for piece in share),
        key=lambda piece: (piece.name, piece.start),
    ):
        values = _shared(piece, kept, processes)
        for target in targets[piece.name]:
            _copy(piece, values, target)


def _on_host(fragment: Fragment) -> Fragment:
    states = {key: state.detach().to("cpu", copy=True) for key, state in fragment.states.items()}
    return Fragment(fragment.name, fragment.start, states)


def _shared(
    piece: Kept, kept: dict[tuple[str, int], Fragment], processes: Processes
) -> Mapping[str, Tensor]:
    """A piece's states, on every rank."""
    if piece.rank == processes.rank:
        values = torch.stack(list(kept.pop((piece.name, piece.start)).states.values()))
    else:
        values = torch.empty(len(piece.states), piece.size)
    shared = processes.broadcast(values, piece.rank)
    return dict(zip(piece.states, shared, strict=True))


def _copy(piece: Kept, values: Mapping[str, Tensor], target: Fragment) -> None:
    """What ``target`` has in common with a piece; states it lacks as `hand_over` says."""
    first = max(piece.start, target.start)
    count = min(piece.start + piece.size, target.start + target.size) - first
    if count <= 0:
        return
    for key, state in target.states.items():
        into = state.narrow(0, first - target.start, count)
        source = values.get(key, values[MASTER] if key == EMA else None)
        if source is None:
            into.zero_()
        else:
            into.copy_(source.narrow(0, first - piece.start, count))
