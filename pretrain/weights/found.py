"""Weights that were found in a file or folder, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from shards.errors import UserError

S1, S2, SEED_VC = "gpt_sovits_s1", "gpt_sovits_s2", "seed_vc"
SEED_VC_V2 = "seed_vc_v2"
SEGUE, DEEPSPEED, SAFETENSORS, STATE_DICT = "segue", "deepspeed", "safetensors", "state_dict"

KINDS = {
    S1: "GPT-SoVITS s1 weights",
    S2: "GPT-SoVITS s2 weights",
    SEED_VC: "Seed-VC weights",
    SEED_VC_V2: "Seed-VC v2 weights",
    SEGUE: "a checkpoint of Segue",
    DEEPSPEED: "a checkpoint of DeepSpeed",
    SAFETENSORS: "safetensors",
    STATE_DICT: "a state dict",
}
"""What can be read, by kind, as people call it."""


@dataclass(frozen=True)
class OptimizerState:
    """What an optimizer keeps beside weights: ``states`` are Adam's moments and averages under the
    names that our checkpoints give them, each by parameter; a parameter need not have any.

    ``updates`` is what Adam's bias correction counts.
    """

    states: Mapping[str, Mapping[str, Tensor]]
    updates: int


@dataclass(frozen=True)
class Weights:
    """``kind`` is one of `KINDS` and ``place`` where they lie.

    ``tensors`` have the names of our models: wrappers' prefixes are gone and components are joined
    by dots. ``config`` is what the file says of its model, under its own keys; {} if nothing.
    ``info`` is its own word on which release it is; of ``step`` and ``epoch`` None is unknown.
    ``optimizer`` is None where no state of it that can be taken over lies beside the weights.
    """

    kind: str
    place: str
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] = field(default_factory=dict)
    info: str = ""
    step: int | None = None
    epoch: float | None = None
    optimizer: OptimizerState | None = None

    @property
    def about(self) -> str:
        """Such as "GPT-e15" or "step 12000, epoch 3"."""
        epoch = None if self.epoch is None else f"{self.epoch:g}"
        known = {"step": self.step, "epoch": epoch}
        parts = [f"{what} {value}" for what, value in known.items() if value is not None]
        return self.info or ", ".join(parts)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all tensors, by name."""
        return {name: tuple(self.outline(name).shape) for name in self.tensors}

    def outline(self, name: str) -> Tensor:
        """A tensor without its numbers; it is not read for that where it can be told."""
        known = self.tensors.outlines if isinstance(self.tensors, LazyTensors) else {}
        return known[name] if name in known else self.tensors[name].to("meta")


class LazyTensors(Mapping[str, Tensor]):
    """Tensors that are read each time they are asked for.

    ``outlines`` are those on the meta device whose shape and dtype are known without.
    """

    def __init__(
        self,
        reads: Mapping[str, Callable[[], Tensor]],
        outlines: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._reads, self.outlines = reads, outlines or {}

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


def number(told: object) -> float | None:
    """What a file says of a step or an epoch, if it is a number."""
    try:
        return float(told)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def whole_number(told: object) -> int | None:
    """`number`, of steps."""
    found = number(told)
    return None if found is None else int(found)
