"""Weights of our own checkpoints."""

from __future__ import annotations

from functools import partial

import torch

from pretrain.checkpoint.location import opened
from pretrain.checkpoint.manifest import EMA, MASTER, DamageError, Manifest
from pretrain.checkpoint.restore import check_files, whole
from pretrain.weights.found import SEGUE, LazyTensors, Weights
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
    reads = {of: partial(whole, store, name, manifest, of, key) for of, key in states.items()}
    state = manifest.state
    outlines = {of: torch.empty(shape, device="meta") for of, shape in state.shapes.items()}
    tensors = LazyTensors(reads, outlines)
    return Weights(SEGUE, where, tensors, state.config, step=state.step, epoch=state.epoch)


def _chosen(manifest: Manifest, where: str, *, ema: bool) -> dict[str, str]:
    """Each parameter's state that is wanted: its weights, or its average where it has one.

    What did not train has none. UserError where there are no averages at all.
    """
    averaged = {of for of, pieces in manifest.pieces.items() if ema and EMA in pieces[0].offsets}
    if ema and not averaged:
        raise UserError(
            f"--ema: {where} holds no averages; train with optimizer.ema_decay, or leave --ema out"
        )
    return {of: EMA if of in averaged else MASTER for of in manifest.state.shapes}
