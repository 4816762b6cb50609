"""The processes of a run: this one's place among them, and what they do together."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from pretrain.checkpoint.board import Board
from shards.errors import UserError

_T = TypeVar("_T")
_board_numbers = count()  # the same on every rank: all ask for boards together


@dataclass(frozen=True)
class Processes:
    """This process's place among all of a run."""

    rank: int
    world_size: int
    local_rank: int
    device: torch.device

    def board(self) -> Board:
        """A new store of small values, for threads beside what the ranks do together.

        It is a part of the store that the process group met in, over a connection of its own: a
        `get` that waits holds up no other board and no collective, and no rank has to open a port.
        """
        met = cast("Any", dist.distributed_c10d._get_default_store())
        own = cast("Any", dist).PrefixStore(f"board{next(_board_numbers)}", met.clone())
        return cast("Board", own)

    def barrier(self) -> None:
        """Wait for all ranks."""
        dist.barrier()

    def first(self, work: Callable[[], _T]) -> _T:
        """The result of ``work``, done by rank 0 alone, on every rank.

        Its UserError is raised on rank 0, which says it; the other ranks leave with exit code 2.
        """
        result, mistake = None, None
        if self.rank == 0:
            try:
                result = work()
            except UserError as error:
                mistake = str(error)
        result, mistake = self.gather((result, mistake))[0]
        if mistake is not None:
            self.fail(mistake)
        return cast("_T", result)

    def each(self, work: Callable[[], _T]) -> _T:
        """This rank's result of ``work``, which every rank does for itself.

        If it is a UserError on any of them all end, and rank 0 says the first.
        """
        result, mistake = None, None
        try:
            result = work()
        except UserError as error:
            mistake = str(error)
        said = next((one for one in self.gather(mistake) if one is not None), None)
        if said is not None:
            self.fail(said)
        return cast("_T", result)

    def fail(self, mistake: str) -> NoReturn:
        """End on a mistake that all ranks know of and one of them says: UserError on rank 0."""
        if self.rank == 0:
            raise UserError(mistake)
        raise SystemExit(2)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in rank order, on every rank."""
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, values: Tensor, source: int) -> Tensor:
        """``values`` of rank ``source``, on every rank's device; all give the same shape."""
        shared = values.to(self.device)
        dist.broadcast(shared, source)
        return shared

    def sum(
        self, values: Sequence[float] | NDArray[np.float64], scalars: Sequence[Tensor] = ()
    ) -> list[float]:
        """Sums over all ranks, in float64: of ``values`` of the host, then of tensors of any place.

        What is on the host goes to the device in one copy.
        """
        on_gpu = self.device.type == "cuda"
        own = [scalar.to(self.device, torch.float64, non_blocking=True) for scalar in scalars]
        known = torch.tensor(np.asarray(values), dtype=torch.float64, pin_memory=on_gpu)
        total = torch.cat([known.to(self.device, non_blocking=True), *(one.view(1) for one in own)])
        dist.all_reduce(total)
        return cast("list[float]", total.tolist())

    def by_rank(self, value: float) -> NDArray[np.float64]:
        """``value`` in this rank's place, else 0, [world size]: summed, it is every rank's."""
        values = np.zeros(self.world_size)
        values[self.rank] = value
        return values

    def total(self, value: Tensor) -> Tensor:
        """The sum over all ranks of a 0-dim tensor, on the device: the host does not wait."""
        total = value.detach().to(self.device, torch.float64, copy=True)
        dist.all_reduce(total)
        return total

    def largest(self, value: float) -> float:
        """The largest value of any rank."""
        most = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(most, op=dist.ReduceOp.MAX)
        return float(most)


def end_process(code: int) -> NoReturn:
    """End this process at once.

    In torch 2.11 a Gloo thread that frees a finished collective's tensors wants the interpreter's
    lock; if the interpreter is being taken down just then, the process aborts.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
