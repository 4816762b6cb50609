"""The memory of a forward and backward pass, found by running it on tensors that hold nothing."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pretrain.estimate.kernels import CudaKernels
from shards.collate import Batch


@dataclass(frozen=True)
class Passes:
    """Bytes alive at the end of a forward pass (``saved`` for the backward one), and at most.

    Neither counts weights, the batch and the gradients of weights.
    """

    saved: int
    peak: int


class Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of every storage that an operator makes, as long as it lives.

    What lives inside an operator, such as a library's workspace, is not seen.
    """

    def __init__(self, known: Iterator[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._sizes = {tensor.untyped_storage()._cdata: 0 for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for one in tree_leaves(found):
            if isinstance(one, Tensor):
                self._note(one)
        return found

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        place = storage._cdata
        if place in self._sizes:
            return
        self._sizes[place] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, place)

    def _gone(self, place: int) -> None:
        self.now -= self._sizes.pop(place)


def passes(model: nn.Module, batch: Batch, dtype: torch.dtype, *, on_cuda: bool) -> Passes:
    """What forward and backward of ``batch`` take with ``model``'s weights in ``dtype``.

    ``model`` may lie on the device meta; nothing is computed. Gradients of weights count only
    while they are passed on, as under ZeRO. ``on_cuda``: with the kernels of CUDA, else of a CPU.
    NotImplementedError where the model asks for the value of a tensor.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode, _values_unknown():
        held = {name: _like(one, dtype) for name, one in model.named_parameters()}
        held |= {name: _like(one, dtype) for name, one in model.named_buffers()}
        faked = batch.mapped(mode.from_tensor)
        alive = Alive(tensor for tensor in (*held.values(), *faked.tensors()))
        with ExitStack() as modes:
            modes.enter_context(alive)
            if on_cuda:
                modes.enter_context(CudaKernels())
            loss = torch.func.functional_call(model, held, (faked, None))["loss"].sum()
            saved = alive.now
            loss.backward()
    return Passes(saved, alive.peak)


def _like(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    floats = tensor.is_floating_point()
    made = torch.empty(tensor.shape, dtype=dtype if floats else tensor.dtype)
    if isinstance(tensor, nn.Parameter) and tensor.requires_grad:
        made.requires_grad_()
        made.register_post_accumulate_grad_hook(_drop)  # type: ignore[no-untyped-call]
    return made


def _drop(parameter: Tensor) -> None:
    parameter.grad = None


@contextmanager
def _values_unknown() -> Iterator[None]:
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
        UnsupportedOperatorException,
    )

    try:
        yield
    except (
        DataDependentOutputException,
        DynamicOutputShapeException,
        UnsupportedOperatorException,
    ) as error:
        raise NotImplementedError(str(error)) from error
