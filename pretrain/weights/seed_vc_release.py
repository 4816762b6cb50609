"""Weights as Seed-VC leaves them when its training ends: ``ft_model.pth``.

A file of torch.save with ``net``: the states of ``cfm`` and of ``length_regulator``, the buffers
that upstream's model keeps among them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretrain.models.seed_vc.config import SeedVCConfig
from pretrain.models.seed_vc.model import SeedVC
from pretrain.weights.families import family_of
from pretrain.weights.found import SEED_VC, Weights
from pretrain.weights.importing import import_config
from pretrain.weights.safetensors_write import rounded
from shards.atomic import replacing
from shards.errors import UserError

COMPONENTS = ("cfm", "length_regulator")

Net = dict[str, OrderedDict[str, Tensor]]


def export(weights: Weights, out: Path, dtype: str) -> Path:
    """Write the weights of both components, and name the file.

    UserError for another model's, and where ``out`` is a folder.
    """
    if out.is_dir():
        raise UserError(f"{out} is a folder; write {out / 'ft_model.pth'}")
    return write({"net": net_of(weights, dtype)}, out)


def write(saved: Mapping[str, Any], out: Path) -> Path:
    """A file of torch.save, whole or not there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as aside, aside.open("wb") as file:
        torch.save(dict(saved), file)
    return out


def net_of(weights: Weights, dtype: str) -> Net:
    """The states of both components in upstream's order; UserError for another model's weights."""
    model = outlined(weights)
    buffers = model.stored_buffers()
    net: Net = {part: OrderedDict() for part in COMPONENTS}
    for name in _with_buffers([name for name, _ in model.named_parameters()], buffers):
        part, _, rest = name.partition(".")
        stored = buffers.get(name)
        net[part][rest] = rounded(weights.tensors[name], dtype) if stored is None else stored
    return net


def outlined(weights: Weights) -> SeedVC:
    """The model of the weights without its numbers; UserError if they are not of a Seed-VC one."""
    family = family_of(weights)
    if family not in {None, SEED_VC}:
        raise UserError(
            f"--to seed-vc: {weights.place} is of the model {family}; write --to safetensors"
        )
    try:
        config = import_config(weights, SEED_VC, None, []).model
    except UserError as error:
        raise UserError(f"--to seed-vc: {error}") from error
    assert isinstance(config, SeedVCConfig)
    with torch.device("meta"):
        model = SeedVC(config)
    expected = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    found = weights.shapes()
    for name in (*expected, *found):
        if expected.get(name) != found.get(name):
            raise UserError(
                f"--to seed-vc: {name} is {found.get(name, 'absent')} in {weights.place} and "
                f"{expected.get(name, 'absent')} in a seed_vc of its sizes; write --to safetensors"
            )
    return model


def _with_buffers(parameters: list[str], buffers: Mapping[str, Tensor]) -> Iterator[str]:
    """A module's buffers come before its children."""
    waiting = dict.fromkeys(buffers)
    for parameter in parameters:
        for name in [one for one in waiting if parameter.startswith(one.rpartition(".")[0] + ".")]:
            del waiting[name]
            yield name
        yield parameter
