"""Checkpoints that DeepSpeed wrote: its float32 weights, whole, whatever the ZeRO stage.

The files of a checkpoint: ``*_model_states.pt`` with the weights as they train, names and shapes
(one, or in stage 3 one a rank), and ``*_optim_states.pt`` with each rank's share of the float32
weights. Layout: deepspeed/utils/zero_to_fp32.py of DeepSpeed 0.19.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretrain.weights.found import DEEPSPEED, LazyTensors, Weights, whole_number
from pretrain.weights.names import HOLDERS, unwrapped
from pretrain.weights.zero_merge import Cut, Slice, cut_by_group, cut_by_parameter
from shards import torch_file
from shards.errors import UserError

LATEST = "latest"
_MODEL, _OPTIMIZER = "*mp_rank_*_model_states.pt", "*_optim_states.pt"
_RANK = re.compile(r"zero_pp_rank_(\d+)_")
_FLAT_BY_GROUP, _FLAT_BY_PARAMETER = "single_partition_of_fp32_groups", "fp32_flat_groups"

Reads = dict[str, Callable[[], Tensor]]


def is_deepspeed(folder: Path) -> bool:
    """Whether it is such a checkpoint, or a folder of them that says which one is the latest."""
    return any(_tagged(folder).glob(_MODEL))


def read(folder: Path) -> Weights:
    """The weights of a checkpoint, or of the latest. UserError if files are missing or damaged."""
    place = _tagged(folder)
    models = [_loaded(path) for path in _by_rank(place, _MODEL)]
    shares = [_loaded(path) for path in _by_rank(place, _OPTIMIZER)]
    try:
        reads = _reads(models, shares, place)
        stage = models[0]["ds_config"].get("zero_optimization", {}).get("stage", 0)
    except (KeyError, AttributeError, TypeError, IndexError) as error:
        raise UserError(
            f"{place}: it is not as DeepSpeed 0.19 writes checkpoints ({error!r}); merge it with "
            "the zero_to_fp32.py that lies beside it and give the result"
        ) from error
    step, tensors = models[0].get("global_steps"), LazyTensors(unwrapped(reads, HOLDERS))
    info = f"step {step}, ZeRO stage {stage}"
    return Weights(DEEPSPEED, str(place), tensors, info=info, step=whole_number(step))


def _tagged(folder: Path) -> Path:
    latest = folder / LATEST
    return folder / latest.read_text(errors="replace").strip() if latest.is_file() else folder


def _by_rank(folder: Path, pattern: str) -> list[Path]:
    found = list(folder.glob(pattern))
    parallel = [path.name for path in found if "mp_rank_00" not in path.name]
    if parallel:
        raise UserError(
            f"{folder}: {min(parallel)} is a part of a model that was split by tensor parallelism; "
            "merge it with DeepSpeed's ds_to_universal.py and give the result"
        )
    return sorted(found, key=_rank)


def _rank(path: Path) -> int:
    match = _RANK.search(path.name)
    return int(match[1]) if match else 0


def _loaded(path: Path) -> Any:
    return torch_file.load(path, str(path))


def _reads(models: Sequence[Any], shares: Sequence[Any], place: Path) -> Reads:
    """How each tensor is read: what no rank's float32 share has, as it trains."""
    model = models[0]
    optimizers = [share["optimizer_state_dict"] for share in shares]
    if not optimizers:  # without ZeRO the weights are whole
        return {name: partial(_float32, tensor) for name, tensor in model["module"].items()}
    _refuse_missing_ranks(optimizers[0], len(optimizers), place)
    if _FLAT_BY_PARAMETER in optimizers[0]:
        vectors = [own[_FLAT_BY_PARAMETER] for own in optimizers]
        cuts = dict(cut_by_parameter(model["param_shapes"], vectors))
        cuts |= _frozen_cuts(models)
        kept = {name: model["module"][name] for name in model["buffer_names"]}
    else:
        vectors = [own[_FLAT_BY_GROUP] for own in optimizers]
        paddings = optimizers[0].get("param_alignment_paddings")
        cuts = dict(cut_by_group(model["param_shapes"], vectors, paddings))
        kept = model["module"]
    reads: Reads = {name: partial(_float32, tensor) for name, tensor in kept.items()}
    reads |= {name: partial(_whole, cut, name, place) for name, cut in cuts.items()}
    shared: Mapping[str, str] = model.get("shared_params") or {}
    return reads | {name: reads[other] for name, other in shared.items() if other in reads}


def _frozen_cuts(models: Sequence[Any]) -> dict[str, Cut]:
    """What did not train in stage 3: each rank's model file has its piece."""
    shapes: Mapping[str, torch.Size] = models[0].get("frozen_param_shapes") or {}
    return {
        name: Cut(
            [Slice([own["frozen_param_fragments"][name]], 0, shape.numel()) for own in models],
            shape,
        )
        for name, shape in shapes.items()
    }


def _refuse_missing_ranks(optimizer: Mapping[str, Any], found: int, place: Path) -> None:
    ranks = optimizer["partition_count"]
    expected = max(ranks) if isinstance(ranks, list) else ranks
    if expected != found:
        raise UserError(
            f"{place}: {found} of {expected} ranks' files {_OPTIMIZER} are there; bring the others"
        )


def _whole(cut: Cut, name: str, place: Path) -> Tensor:
    try:
        return cut.whole()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{place}: numbers of {name} are missing; copy it anew") from error


def _float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
