"""The weights with which a new run begins: a released checkpoint's, or another run's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from pretrain.checkpoint.location import opened
from pretrain.checkpoint.manifest import EMA, MASTER
from pretrain.checkpoint.restore import Restored, Resume, newest_valid, verified
from pretrain.config import Config
from pretrain.distill import Teacher
from pretrain.engine import Engine
from pretrain.fragment import Fragment
from pretrain.held_out import HeldOut
from pretrain.preflight import Ready
from pretrain.processes import Processes
from pretrain.scores import ALL, Score
from pretrain.validation import measured
from pretrain.weights.bring import Initial
from pretrain.weights.fit import Fit
from pretrain.weights.found import KINDS, OptimizerState
from pretrain.weights.importing import assumed
from pretrain.weights.read import exact
from pretrain.weights.table import as_text, by_component

CHECKED_STEPS = 4
"""Steps' worth of clips on which imported weights are compared with fresh ones."""


def origin(
    config: Config, processes: Processes, say: Callable[[str], None]
) -> tuple[Resume | None, str | None]:
    """The checkpoint that a run goes on from, and the place of the weights that it begins with.

    Its own checkpoint if it has one; at ``init_level=all`` that of another run. The place is that
    of one checkpoint, the same for all ranks, however the other run goes on.
    """
    own, named = newest_valid(config.checkpoints(), processes, say), config.init_from
    if own or named is None:
        return own, None
    place = processes.first(lambda: exact(named))
    if config.init_level != "all":
        return None, place
    store, name, manifest = processes.each(lambda: opened(place))
    return verified(Resume(store, name, manifest), processes), place


def fill(engine: Engine, initial: Initial, level: str) -> Restored:
    """Give the engine the weights and, at a level that asks for it, the optimizer's state."""
    brought = initial.weights.optimizer if level == "weights+optimizer" else None
    told = place(initial.fit, brought, engine.held())
    engine.restored(brought.updates if brought else 0)
    return told


def place(fit: Fit, brought: OptimizerState | None, fragments: Iterable[Fragment]) -> Restored:
    """Fill fragments with weights and, for parameters that are loaded as they are, with the moments
    and averages that were ``brought``.

    Without them moments are zero and averages the weights, which is told where any were brought.
    """
    same = {row.name for row in fit.rows if row.status == "loaded"}
    told = Restored()
    for fragment in fragments:
        for key, state in fragment.states.items():
            kept = brought.states.get(key, {}) if brought and fragment.name in same else {}
            if key != MASTER and fragment.name in kept:
                state.copy_(_share(kept[fragment.name], fragment))
            elif key in (MASTER, EMA):
                state.copy_(_share(fit.tensors[fragment.name], fragment))
            else:
                state.zero_()
            if brought and key != MASTER and fragment.name not in kept:
                (told.new_averages if key == EMA else told.new_moments).add(fragment.name)
    return told


def _share(values: Tensor, fragment: Fragment) -> Tensor:
    return values.reshape(-1)[fragment.start : fragment.start + fragment.size]


def check(
    config: Config, ready: Ready, engine: Engine, initial: Initial, say: Callable[[str], None]
) -> Restored:
    """Show what fits and `fill`; end the run with a UserError if its loss is no lower for it."""
    what = ", ".join(filter(None, [KINDS[initial.weights.kind], initial.weights.about]))
    say(f"init_from: {initial.weights.place} ({what})\n{as_text(by_component(initial.fit))}")
    if not config.init_check:
        return fill(engine, initial, config.init_level)
    place, held = initial.weights.place, checked_clips(config, ready)
    before = _score(config, engine, held)
    told = fill(engine, initial, config.init_level)
    after = _score(config, engine, held)
    ours, theirs = after.terms["loss"], before.terms["loss"]
    if not ours < theirs:
        engine.processes.fail(
            f"init_from: {place} has a loss of {ours:.4f} on {after.clips} clips and fresh weights "
            f"have {theirs:.4f}: see that it is of this model and that the shards hold its tokens "
            "and phonemes, or write init_check=false"
        )
    if untold := assumed(initial.weights, config.model, source="as this run's config has it"):
        say(f"init_from: {untold}")
    say(f"init_from: loss {ours:.4f} on {after.clips} clips, with fresh weights {theirs:.4f}")
    return told


def checked_clips(config: Config, ready: Ready) -> HeldOut:
    """Some of the clips set apart, or of the first step where none are."""
    for held in ready.held_out:
        return replace(held, steps=min(held.steps, CHECKED_STEPS))
    data = config.data.model_copy(update={"workers": 0, "on_error": "skip"})
    return HeldOut("train", ready.plan, data, 1)


def _score(config: Config, engine: Engine, held: HeldOut) -> Score:
    return measured(config, engine, (held,)).scores[held.name][ALL]


def teacher_of(
    config: Config, initial: Initial | None, device: torch.device, dtype: torch.dtype
) -> Teacher | None:
    """The imported model to stay near to, where ``distill`` asks for that."""
    if initial is None or not config.distill.weight:
        return None
    with torch.device("meta"):
        module = config.model.build()
    weights: Mapping[str, Tensor] = initial.fit.tensors
    module.load_state_dict(dict(weights), assign=True)
    return Teacher.of(module, config.distill, device, dtype)
