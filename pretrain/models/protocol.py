"""What the trainer asks of a model, and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from shards.census import Census
from shards.corpus import Corpus
from shards.fields import Field
from shards.section import Section

if TYPE_CHECKING:
    import torch
    from torch import nn

    from shards.collate import Batch

Terms = Mapping[str, "torch.Tensor"]
"""Sums over each clip of a micro-batch, [B]: ``loss`` is trained on, the others are shown. The
trainer adds them up and divides by the step's global number of targets."""


@dataclass(frozen=True, eq=False)
class Guide:
    """The ``outputs`` of a model to follow on a batch, and how closely."""

    outputs: torch.Tensor
    weight: float
    temperature: float


@dataclass(frozen=True, eq=False)
class Sound:
    """Samples of -1 to 1, float32 [L], ``sample_rate`` a second."""

    samples: torch.Tensor
    sample_rate: int


@dataclass(frozen=True, eq=False)
class Preview:
    """What a model makes of the clip ``key``: RGB pictures, uint8 [height, width, 3], and sounds,
    each by its name, all on the CPU.
    """

    key: str
    pictures: Mapping[str, torch.Tensor] = field(default_factory=dict)
    sounds: Mapping[str, Sound] = field(default_factory=dict)


@runtime_checkable
class Previewing(Protocol):
    """What a module may be able to do beside what `Family` asks of it.

    It is asked without gradients and in eval mode, on all ranks together with the same batch. Under
    ZeRO-3 a weight is there only in the ``forward`` of the submodule that it belongs to.
    """

    def previews(self, batch: Batch) -> Sequence[Preview]: ...


@runtime_checkable
class Counted(Protocol):
    """What a family may be able to do beside what `Family` asks of it: tell how much it computes.

    ``flops`` are those of a forward pass over each clip alone, so without any padding, float64
    [rows], by the prefix of the parameters that they are spent with, in the order in which data
    passes them (0 for a table of embeddings). A multiplication and an addition are two; attention
    counts every pair of places, masked or not. It comes from the index alone.
    """

    def flops(
        self, corpus: Corpus, rows: npt.NDArray[np.int64]
    ) -> Mapping[str, npt.NDArray[np.float64]]: ...


class Family(Section, ABC):
    """The config of a model family: torch-free, so that a run can be planned before it starts.

    The module that `build` returns takes a `shards.collate.Batch` and a `Guide` or None in
    ``forward`` and returns `Terms`; ``outputs(batch)`` are what a guide of it holds. Its
    ``components()`` name the parts that a user can address, each with the prefixes of its
    parameters; its ``growth()`` says how they grow beyond imported weights; its ``unused()`` names
    parameters that checkpoints hold but no loss reaches, which are never trained.
    """

    name: str
    """The family's name in a run config."""

    unit: ClassVar[Literal["tokens", "clips"]] = "tokens"
    """What `targets` counts, for people; ``clips`` where a clip's loss is a mean."""

    @abstractmethod
    def fields(self) -> tuple[Field, ...]:
        """The clip members that a batch must hold."""

    @abstractmethod
    def targets(self, corpus: Corpus, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """How many targets the loss of each of these clips sums over, int64 [rows].

        It comes from the index alone.
        """

    @abstractmethod
    def check(self, census: Census) -> None:
        """UserError if the clips that a run takes cannot train this model."""

    @abstractmethod
    def build(self) -> nn.Module:
        """A freshly initialised model."""
