"""What the trainer asks of a model, and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from shards.census import Census
from shards.corpus import Corpus
from shards.fields import Field
from shards.section import Section

if TYPE_CHECKING:
    import torch
    from torch import nn

Terms = Mapping[str, "torch.Tensor"]
"""Sums over each clip of a micro-batch, [B]: ``loss`` is trained on, the others are shown. The
trainer adds them up and divides by the step's global number of targets."""


@dataclass(frozen=True, eq=False)
class Guide:
    """The ``outputs`` of a model to follow on a batch, and how closely."""

    outputs: torch.Tensor
    weight: float
    temperature: float


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
