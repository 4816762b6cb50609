"""How many bytes a process holds under each way of ZeRO: arithmetic on parameter counts.

What each part holds was read off the engine: `tests/distributed/memory_check.py` compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pretrain.components import Training
from pretrain.zero import BUCKET, Precision

LIVE = 1_000_000_000
"""Weights that ZeRO-3 keeps gathered, its default ``stage3_max_live_parameters``."""
USABLE = 0.9
"""Of a device's memory: CUDA's context, NCCL and fragments between blocks take the rest."""
_FLOAT = 4


@dataclass(frozen=True)
class Way:
    """A ZeRO stage, and whether states and weights lie in host memory."""

    stage: Literal[0, 1, 2, 3]
    offload: bool = False

    @property
    def name(self) -> str:
        """As tables show it."""
        return f"ZeRO-{self.stage}" + (" offload" if self.offload else "")


WAYS = (Way(0), Way(1), Way(2), Way(3), Way(3, offload=True))
"""From what communicates least to what holds least."""


@dataclass(frozen=True)
class Numbers:
    """Counts of ``every`` parameter, of those that are ``trained`` and of a teacher's."""

    every: int
    trained: int
    teacher: int = 0

    @classmethod
    def of(cls, training: Training, step: int, *, taught: bool = False) -> Numbers:
        """Those of a run at a step."""
        sizes = training.outline.sizes()
        groups = training.groups(step)
        every = sum(sizes.values())
        trained = sum(sizes[name] for group in groups for name in group.parameters)
        return cls(every, trained, every if taught else 0)

    def checkpoint_bytes(self, *, averages: bool) -> int:
        """Float32 masters of every parameter, and moments and averages of those that train."""
        return _FLOAT * (self.every + (2 + averages) * self.trained)


@dataclass(frozen=True)
class Setting:
    """What memory depends on beside the way: ``accumulates`` where a rank has several micro-batches
    a step.
    """

    ranks: int
    precision: Precision
    accumulates: bool
    averages: bool
    on_cpu: bool = False


@dataclass(frozen=True)
class Memory:
    """Bytes of one process, by part; ``host`` and ``copied`` are beside the device's."""

    weights: int
    gradients: int
    optimizer: int
    gathered: int
    buffers: int
    activations: int
    host: int
    copied: int

    @property
    def device(self) -> int:
        """Everything on the device together."""
        return self.states + self.gathered + self.buffers + self.activations

    @property
    def states(self) -> int:
        """Weights, gradients and the optimizer's."""
        return self.weights + self.gradients + self.optimizer


def memory(numbers: Numbers, way: Way, setting: Setting, activations: int) -> Memory:
    """What a process holds at a step's highest point.

    - weights: every parameter in the run's precision, in stage 3 one share of them, and a teacher
    - gradients: see `_gradients`
    - optimizer: both moments, the averages, and from stage 1 on float32 masters, one share each
    - gathered: the weights that stage 3 brings together again, all of those of a small model
    - buffers: what DeepSpeed reduces gradients in
    - activations: as `pretrain.estimate.activations` measures them, whatever the way
    - host: frozen parameters' float32 masters, one share; with offload also all of the above
      shares, and gradients twice (summed, and as the update reads them)
    - copied: what a checkpoint is copied to before it is written; what is pinned for a GPU comes
      in powers of two
    """
    ranks = setting.ranks
    width = 2 if setting.precision == "bf16" else _FLOAT
    weights = numbers.every * width // (ranks if way.stage == 3 else 1)
    gradients = _gradients(numbers.trained, way, setting)
    copies = 2 + setting.averages + (way.stage > 0)
    optimizer = _FLOAT * copies * numbers.trained // (ranks if way.stage else 1)
    gathered = width * min(numbers.every, LIVE) if way.stage == 3 else 0
    buffers = _buffers(numbers, way, setting, width)
    host = _FLOAT * (numbers.every - numbers.trained) // ranks
    if way.offload and not setting.on_cpu:
        host += weights + 2 * gradients + optimizer
        weights = gradients = optimizer = 0
    return Memory(
        weights=weights + numbers.teacher * width,
        gradients=gradients,
        optimizer=optimizer,
        gathered=gathered,
        buffers=buffers,
        activations=activations,
        host=host,
        copied=_copied(numbers, setting),
    )


def _copied(numbers: Numbers, setting: Setting) -> int:
    share = numbers.checkpoint_bytes(averages=setting.averages) // setting.ranks
    return share if setting.on_cpu else 1 << (share - 1).bit_length()


def _gradients(trained: int, way: Way, setting: Setting) -> int:
    """Float32 sums: whole up to stage 1, one share beyond; bf16 in stage 1 has its own beside.

    In stage 1 and fp32 without accumulation they go straight into the shares.
    """
    if way.stage >= 2:
        return _FLOAT * trained // setting.ranks
    if way.stage == 0:
        return _FLOAT * trained
    if setting.precision == "bf16":
        return (_FLOAT + 2) * trained
    return _FLOAT * trained // (1 if setting.accumulates else setting.ranks)


def _buffers(numbers: Numbers, way: Way, setting: Setting, width: int) -> int:
    # Without ZeRO, and in stage 1 with bf16, gradients are flattened in float32 to be reduced;
    # else there is one bucket.
    flattens = way.stage == 0 or (way.stage == 1 and setting.precision == "bf16")
    if flattens:
        return _FLOAT * min(numbers.trained, BUCKET) if setting.ranks > 1 else 0
    return width * min(numbers.trained, BUCKET)


def possible(way: Way, precision: Precision) -> bool:
    """Whether DeepSpeed has an optimizer for it, as `pretrain.zero.refuse_precision`."""
    return not (way.stage == 0 and precision == "bf16")
