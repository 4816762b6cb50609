"""Weights of our own checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch

from pretrain.checkpoint.location import opened
from pretrain.checkpoint.manifest import EMA, MASTER, MOMENTS, DamageError, Manifest
from pretrain.checkpoint.restore import check_files, whole
from pretrain.checkpoint.store import Store
from pretrain.weights.found import SEGUE, LazyTensors, OptimizerState, Weights
from shards.errors import UserError


def read(place: str, *, ema: bool) -> Weights:
    """Of a checkpoint or of a run's newest one, by folder or URL.

    UserError where there is none, and where a file of it is damaged.
    """
    store, name, manifest = opened(place)
    where = store.place(name)
    try:
        check_files(store, name, manifest.files.items())
    except DamageError as damage:
        raise UserError(f"{where} is damaged ({damage}); name another checkpoint") from damage
    states = _chosen(manifest, where, ema=ema)
    state = manifest.state
    kept = {
        key: _lazy(store, name, manifest, dict.fromkeys(_having(manifest, key), key))
        for key in (*MOMENTS, EMA)
    }
    return Weights(
        SEGUE,
        where,
        _lazy(store, name, manifest, states),
        state.config,
        step=state.step,
        epoch=state.epoch,
        optimizer=OptimizerState(kept, state.updates),
    )


def _lazy(store: Store, name: str, manifest: Manifest, states: Mapping[str, str]) -> LazyTensors:
    """``states`` of parameters, read when they are asked for."""
    reads = {of: partial(whole, store, name, manifest, of, key) for of, key in states.items()}
    shapes = manifest.state.shapes
    return LazyTensors(reads, {of: torch.empty(shapes[of], device="meta") for of in states})


def _having(manifest: Manifest, key: str) -> set[str]:
    """The parameters of which a state is saved."""
    return {of for of, pieces in manifest.pieces.items() if key in pieces[0].offsets}


def _chosen(manifest: Manifest, where: str, *, ema: bool) -> dict[str, str]:
    """Each parameter's state that is wanted: its weights, or its average where it has one.

    What did not train has none. UserError where there are no averages at all.
    """
    averaged = _having(manifest, EMA) if ema else set()
    if ema and not averaged:
        raise UserError(
            f"--ema: {where} holds no averages; train with optimizer.ema_decay, or leave --ema out"
        )
    return {of: EMA if of in averaged else MASTER for of in manifest.state.shapes}
