"""Forward and backward passes of micro-batches of any size, and the memory that they take."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pretrain.config import Config
from pretrain.peak import Peak, lacks_memory
from pretrain.start import DTYPES
from shards.collate import Batch
from shards.errors import UserError
from shards.plan import MicroBatch, Plan
from shards.stream import read_batch

READ = 8
"""Clips of a bucket that are read; a larger micro-batch holds them several times."""


class Trials:
    """A model in the run's precision that only passes forward and backward: nothing is trained."""

    def __init__(
        self, config: Config, trained: frozenset[str], plan: Plan, device: torch.device
    ) -> None:
        """``trained`` are the names of the parameters that get a gradient."""
        self._config, self._plan, self._device = config, plan, device
        torch.manual_seed(config.seed)
        self.model: nn.Module = config.model.build().to(device, DTYPES[config.precision]).train()
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in trained)
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(_drop)  # type: ignore[no-untyped-call]
        # Libraries keep what they set up at first: that is no part of a micro-batch.
        self._pass(repeated(self.longest(0), 1).to(device))

    def longest(self, bucket: int) -> Batch:
        """The longest clips of a bucket, padded together."""
        rows = self._plan.census.longest_rows(bucket, READ)
        micro = MicroBatch(0, 0, bucket, rows)
        return read_batch(self._plan, self._config.model.fields(), micro, self._config.data)

    def growth(self, batch: Batch, clips: int) -> int | None:
        """Bytes that passes over ``clips`` clips take at most; None where memory does not suffice.

        The clips are those of ``batch`` over and over.
        """
        peak = Peak(self._device)
        try:
            self._pass(repeated(batch, clips).to(self._device))
        except RuntimeError as error:
            if lacks_memory(error):
                return None
            raise
        return peak.growth

    def _pass(self, batch: Batch) -> None:
        torch.manual_seed(self._config.seed)
        self.model(batch, None)["loss"].sum().backward()


def _drop(parameter: Tensor) -> None:
    parameter.grad = None


def repeated(batch: Batch, clips: int) -> Batch:
    """``clips`` clips: those of ``batch`` from the first on, again and again."""
    places = np.arange(clips) % len(batch.rows)
    taken = batch.mapped(lambda tensor: tensor[torch.from_numpy(places)])
    return Batch(
        step=batch.step,
        index=batch.index,
        keys=tuple(batch.keys[place] for place in places.tolist()),
        rows=batch.rows[places],
        arrays=taken.arrays,
        lengths=taken.lengths,
    )


def refuse_too_little(room: float, limit: float, taken: float, remedy: str) -> None:
    """UserError where weights, states and buffers leave nothing for a micro-batch."""
    if room <= 0:
        raise UserError(
            f"{limit / 1e9:.2f} GB of memory do not hold the {taken / 1e9:.2f} GB that a process "
            f"takes without any micro-batch; {remedy}"
        )
