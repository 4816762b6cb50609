"""Files that Seed-VC's trainers leave: ``net`` by component and, v1, its optimizers beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from pretrain.checkpoint.manifest import MOMENTS
from pretrain.weights.found import (
    SEED_VC,
    SEED_VC_V2,
    OptimizerState,
    Weights,
    number,
    refuse_averages,
    whole_number,
)
from pretrain.weights.names import WRAPPERS, is_state, unwrapped
from shards.errors import UserError

# What the averages leave out.
_NOT_AVERAGED = "input_pos"
# Buffers that v1's models compute anew.
_COMPUTED = ("input_pos", ".freqs")
_V2_COMPONENT = "ar"
# Buffers of v2's transformer alone.
_V2_MARKS = ("transformer.freqs_cis", "transformer.causal_mask")

Net = Mapping[str, Mapping[str, Tensor]]


def is_seed_vc(saved: Mapping[str, Any]) -> bool:
    """Whether what torch.load gave is such a file."""
    net = saved.get("net")
    return isinstance(net, Mapping) and bool(net) and all(map(is_state, net.values()))


def read(saved: Mapping[str, Any], place: str, *, ema: bool) -> Weights:
    """The parameters of both components, under ``cfm.`` and ``length_regulator.``.

    UserError where averages are asked for that are not there.
    """
    net: Net = {part: unwrapped(state, WRAPPERS) for part, state in saved["net"].items()}
    step, epoch = whole_number(saved.get("iters")), number(saved.get("epoch"))
    parts = _averaged(saved.get("ema"), net, place) if ema else net
    tensors = _joined(parts)
    if _V2_COMPONENT in net or any(name.endswith(_V2_MARKS) for name in tensors):
        return Weights(SEED_VC_V2, place, tensors, step=step, epoch=epoch)
    parameters = {part: _parameters(state) for part, state in parts.items()}
    optimizer = _optimizer(saved.get("optimizer"), parameters)
    tensors = _joined(parameters)
    return Weights(SEED_VC, place, tensors, step=step, epoch=epoch, optimizer=optimizer)


def _parameters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.endswith(_COMPUTED)}


def _joined(parts: Net) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()
    }


def _averaged(averages: Any, net: Net, place: str) -> Net:
    """``net`` with its averages in place of the weights: lists in the order of the names."""
    if not isinstance(averages, Mapping):
        refuse_averages(place, ema=True)
    parts = {}
    for part, state in net.items():
        names = [name for name in state if _NOT_AVERAGED not in name]
        kept = averages.get(part)
        found = list(kept[0]) if isinstance(kept, list | tuple) and kept else []
        if len(found) != len(names):
            raise UserError(
                f"--ema: {place} holds {len(found)} averages for the {len(names)} weights of "
                f"{part}; leave --ema out"
            )
        parts[part] = {**state, **dict(zip(names, found, strict=True))}
    return parts


def _optimizer(saved: Any, net: Net) -> OptimizerState | None:
    """Adam's moments out of pairs of a component and its optimizer's state; None where there are
    none, or not of these parameters.

    All parameters are taken to have had as many updates as the one with most.
    """
    moments: dict[str, dict[str, Tensor]] = {key: {} for key in MOMENTS}
    updates = 0
    try:
        for part, state in saved or ():
            for name, own in _by_name(state, net[part]):
                updates = max(updates, int(own["step"]))
                for key in MOMENTS:
                    moments[key][f"{part}.{name}"] = own[key]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None
    return OptimizerState(moments, updates) if updates else None


def _by_name(
    state: Mapping[str, Any], parameters: Mapping[str, Tensor]
) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """An optimizer's states by the names of its parameters, which are numbered in their order.

    ValueError where they are not of these parameters.
    """
    named = list(parameters.items())
    if len(named) != sum(len(group["params"]) for group in state["param_groups"]):
        raise ValueError("another number of parameters")
    for place, own in state["state"].items():
        name, values = named[place]
        if any(own[key].shape != values.shape for key in MOMENTS):
            raise ValueError(f"{name} has another shape")
        yield name, own
