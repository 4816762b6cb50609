"""What a file of torch.save holds, told by its content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pretrain.weights import seed_vc_files
from pretrain.weights.found import (
    S1,
    S2,
    STATE_DICT,
    Weights,
    number,
    refuse_averages,
    whole_number,
)
from pretrain.weights.names import HOLDERS, is_state, joined, unwrapped

_MARKS = {
    S1: ("ar_audio_embedding.", "ar_text_embedding."),
    # The last two: exports of adapters only, and the discriminator.
    S2: ("enc_p.", "cfm.base_model.", "discriminators."),
}


def recognised(saved: Any, place: str, *, ema: bool) -> Weights | None:
    """The weights in what torch.load gave, or None if it is nothing that is known."""
    if not isinstance(saved, Mapping):
        return None
    if seed_vc_files.is_seed_vc(saved):
        return seed_vc_files.read(saved, place, ema=ema)
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
