"""What a file of torch.save holds, told by its content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from pretrain.weights.found import (
    S1,
    S2,
    SEED_VC,
    STATE_DICT,
    Weights,
    number,
    refuse_averages,
    whole_number,
)
from pretrain.weights.names import HOLDERS, WRAPPERS, is_state, joined, unwrapped
from shards.errors import UserError

_MARKS = {
    S1: ("ar_audio_embedding.", "ar_text_embedding."),
    # The last two: exports of adapters only, and the discriminator.
    S2: ("enc_p.", "cfm.base_model.", "discriminators."),
}
# Caches that Seed-VC's averages leave out.
_NOT_AVERAGED = "input_pos"


def recognised(saved: Any, place: str, *, ema: bool) -> Weights | None:
    """The weights in what torch.load gave, or None if it is nothing that is known."""
    if not isinstance(saved, Mapping):
        return None
    net = saved.get("net")
    if isinstance(net, Mapping) and net and all(map(is_state, net.values())):
        return _seed_vc(saved, place, ema=ema)
    refuse_averages(place, ema=ema)
    for key in ("weight", "state_dict", "model"):
        if is_state(saved.get(key)):
            tensors = unwrapped(saved[key], HOLDERS)
            return Weights(_kind(tensors), place, tensors, _config(saved), **_about(saved))
    leaves = dict(joined(saved))
    if is_state(leaves):
        return Weights(STATE_DICT, place, unwrapped(leaves, HOLDERS))
    return None


def _kind(names: Iterable[str]) -> str:
    known = list(names)
    for kind, marks in _MARKS.items():
        if any(name.startswith(marks) for name in known):
            return kind
    return STATE_DICT


def _config(saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of GPT-SoVITS: beside a release's weights, or among Lightning's hyper-parameters."""
    for holder in (saved, saved.get("hyper_parameters")):
        if isinstance(holder, Mapping) and isinstance(holder.get("config"), Mapping):
            config: Mapping[str, Any] = holder["config"]
            return config
    return {}


def _about(saved: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(saved.get("info"), str):
        return {"info": saved["info"]}
    if "iteration" in saved:  # what s2's training files call their epoch
        return {"epoch": number(saved["iteration"])}
    return {"step": whole_number(saved.get("global_step")), "epoch": number(saved.get("epoch"))}


def _seed_vc(saved: Mapping[str, Any], place: str, *, ema: bool) -> Weights:
    net: Mapping[str, Mapping[str, Tensor]] = saved["net"]
    parts = _averaged(saved.get("ema"), net, place) if ema else net
    tensors = {
        f"{component}.{name}": tensor
        for component, state in parts.items()
        for name, tensor in unwrapped(state, WRAPPERS).items()
    }
    step, epoch = whole_number(saved.get("iters")), number(saved.get("epoch"))
    return Weights(SEED_VC, place, tensors, step=step, epoch=epoch)


def _averaged(
    averages: Any, net: Mapping[str, Mapping[str, Tensor]], place: str
) -> dict[str, dict[str, Tensor]]:
    """``net`` with its averages in place of the weights: lists in the order of the names."""
    if not isinstance(averages, Mapping):
        refuse_averages(place, ema=True)
    parts = {}
    for component, state in net.items():
        names = [name for name in state if _NOT_AVERAGED not in name]
        found = list(averages[component][0]) if component in averages else []
        if len(found) != len(names):
            raise UserError(
                f"--ema: {place} holds {len(found)} averages for the {len(names)} weights of "
                f"{component}; leave --ema out"
            )
        parts[component] = {**state, **dict(zip(names, found, strict=True))}
    return parts
