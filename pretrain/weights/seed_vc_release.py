"""Weights as Seed-VC leaves them when its training ends: ``ft_model.pth``.

A file of torch.save with ``net``: the states of ``cfm`` and of ``length_regulator``.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor

from pretrain.weights.found import Weights
from pretrain.weights.safetensors_write import rounded
from shards.atomic import replacing
from shards.errors import UserError

COMPONENTS = ("cfm", "length_regulator")


def export(weights: Weights, out: Path, dtype: str) -> None:
    """Write the weights of both components. UserError for those of another model."""
    net: dict[str, OrderedDict[str, Tensor]] = {part: OrderedDict() for part in COMPONENTS}
    for name in weights.tensors:
        component, _, rest = name.partition(".")
        if component not in net:
            raise UserError(
                f"--to seed-vc: {weights.place} holds {name}, which is in none of "
                f"{', '.join(COMPONENTS)}; write --to safetensors"
            )
        net[component][rest] = rounded(weights.tensors[name], dtype)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as aside, aside.open("wb") as file:
        torch.save({"net": net}, file)
