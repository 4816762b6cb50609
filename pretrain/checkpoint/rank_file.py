"""One rank's file: float32 states of its fragments, as safetensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Condition
from typing import Any, cast

import torch
from torch import Tensor

from pretrain.checkpoint.direct import ALIGNMENT, aligned_memory
from pretrain.checkpoint.manifest import Piece
from pretrain.checkpoint.safetensors_header import header
from pretrain.fragment import Fragment

_BYTES = 4
_BLOCK_BYTES = 32 << 20


class HostCopy:
    """A rank's fragments in host memory, one after another, as they lie in its file.

    The memory is taken at once, so that a lack of it shows when a run starts; it is pinned where
    the fragments are on a GPU. A thread copies, on a stream of its own.
    """

    def __init__(self, fragments: Sequence[Fragment]) -> None:
        states = [state for one in fragments for state in one.states.values()]
        gpu = next((state.device for state in states if state.is_cuda), None)
        count = sum(state.numel() for state in states)
        self._values = _host_memory(count, pinned=gpu is not None)
        self._stream: Any = cast("Any", torch.cuda).Stream(gpu) if gpu else None
        # A thread begins on the first GPU, where it would set up what takes 0.5 GB.
        begin = (torch.cuda.set_device, (gpu,)) if gpu else (None, ())
        self._thread = ThreadPoolExecutor(1, "copy", *begin)
        self._copying: Future[None] | None = None

    def begin(self, fragments: Sequence[Fragment], file: str) -> RankFile:
        """Start to copy the fragments' states; they may change when `wait` has returned."""
        self.wait()
        if self._stream:
            self._stream.wait_stream(torch.cuda.current_stream())
        begin, copied = _header(fragments), Copied()
        pieces = tuple(_pieces(fragments, file, len(begin)))
        count = sum(one.size * len(one.states) for one in fragments)
        self._copying = self._thread.submit(self._copy, fragments, copied)
        return RankFile(file, begin, self._values[:count], pieces, copied)

    def wait(self) -> None:
        """Wait until the copy is complete."""
        if self._copying:
            self._copying.result()
            self._copying = None

    def _copy(self, fragments: Sequence[Fragment], copied: Copied) -> None:
        at = 0
        try:
            with torch.cuda.stream(self._stream) if self._stream else nullcontext():
                for state in (state for one in fragments for state in one.states.values()):
                    into = self._values[at : at + state.numel()]
                    into.copy_(state, non_blocking=self._stream is not None)
                    at += state.numel()
                    if not self._stream:
                        copied.reached(_BYTES * at)
            if self._stream:
                self._stream.synchronize()
        except BaseException as error:
            copied.failed(error)
            raise
        copied.reached(_BYTES * at)


class Copied:
    """How much of a copy is there, for another thread that uses it from the front."""

    def __init__(self) -> None:
        self._bytes = 0
        self._error: BaseException | None = None
        self._changed = Condition()

    def reached(self, count: int) -> None:
        """So many bytes are there."""
        with self._changed:
            self._bytes = count
            self._changed.notify_all()

    def failed(self, error: BaseException) -> None:
        """There will be no more."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def wait(self, count: int) -> None:
        """Wait for the first ``count`` bytes; RuntimeError if they will not come."""
        with self._changed:
            self._changed.wait_for(lambda: self._bytes >= count or self._error is not None)
            if self._error is not None:
                raise RuntimeError("the copy to host memory failed") from self._error


@dataclass(frozen=True, eq=False)
class RankFile:
    """A file to be written: its header, its numbers (float32 [count]) and what lies where."""

    name: str
    header: memoryview
    values: Tensor
    pieces: tuple[tuple[str, Piece], ...]
    copied: Copied

    def blocks(self) -> Iterator[memoryview]:
        """The file's content, each block when it has been copied."""
        yield self.header
        content = bytes_of(self.values)
        for start in range(0, len(content), _BLOCK_BYTES):
            block = content[start : start + _BLOCK_BYTES]
            self.copied.wait(start + len(block))
            yield block


def bytes_of(values: Tensor) -> memoryview:
    """The memory of a tensor on this host."""
    array: Any = values.numpy()
    return memoryview(array).cast("B") if values.numel() else memoryview(b"")


def _host_memory(count: int, *, pinned: bool) -> Tensor:
    """Float32 [count], all of it taken from the system now."""
    if pinned or not count:
        return torch.empty(count, pin_memory=pinned).fill_(0)
    return torch.frombuffer(aligned_memory(_BYTES * count), dtype=torch.float32).fill_(0)


def _header(fragments: Sequence[Fragment]) -> memoryview:
    """The header of the safetensors format: the numbers begin where it ends."""
    tensors, at = {}, 0
    for fragment in fragments:
        for key in fragment.states:
            end = at + _BYTES * fragment.size
            tensors[f"{key}/{fragment.name}/{fragment.start}"] = {
                "dtype": "F32",
                "shape": [fragment.size],
                "data_offsets": [at, end],
            }
            at = end
    content = header(tensors, ALIGNMENT)
    aligned = aligned_memory(len(content))
    aligned[:] = content
    return aligned


def _pieces(fragments: Sequence[Fragment], file: str, begin: int) -> Iterator[tuple[str, Piece]]:
    at = begin
    for fragment in fragments:
        offsets = {}
        for key in fragment.states:
            offsets[key] = at
            at += _BYTES * fragment.size
        piece = Piece(start=fragment.start, count=fragment.size, file=file, offsets=offsets)
        yield fragment.name, piece
