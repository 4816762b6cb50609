"""Weights that were found in a file or folder, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from shards.errors import UserError

S1, S2, SEED_VC = "gpt_sovits_s1", "gpt_sovits_s2", "seed_vc"
SEGUE, DEEPSPEED, SAFETENSORS, STATE_DICT = "segue", "deepspeed", "safetensors", "state_dict"

KINDS = {
    S1: "GPT-SoVITS s1 weights",
    S2: "GPT-SoVITS s2 weights",
    SEED_VC: "Seed-VC weights",
    SEGUE: "a checkpoint of Segue",
    DEEPSPEED: "a checkpoint of DeepSpeed",
    SAFETENSORS: "safetensors",
    STATE_DICT: "a state dict",
}
"""What can be read, by kind, as people call it."""


@dataclass(frozen=True)
class Weights:
    """``kind`` is one of `KINDS`; ``place`` is where they lie, ``about`` which step or release.

    ``tensors`` have the names of our models: wrappers' prefixes are gone and components are joined
    by dots. ``config`` is what the file says of its model, under its own keys; {} if nothing.
    """

    kind: str
    place: str
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""


class LazyTensors(Mapping[str, Tensor]):
    """Tensors that are read each time they are asked for."""

    def __init__(self, reads: Mapping[str, Callable[[], Tensor]]) -> None:
        self._reads = reads

    def __getitem__(self, name: str) -> Tensor:
        return self._reads[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._reads)

    def __len__(self) -> int:
        return len(self._reads)


def refuse_averages(place: str, *, ema: bool) -> None:
    """UserError where averages are asked for and a file of this kind has none."""
    if ema:
        raise UserError(f"--ema: {place} holds no averages of its weights; leave --ema out")


def progress(step: object, epoch: object) -> str:
    """Such as "step 12000, epoch 3"; of both only what is known."""
    known = {"step": step, "epoch": epoch}
    return ", ".join(f"{what} {value}" for what, value in known.items() if value is not None)
