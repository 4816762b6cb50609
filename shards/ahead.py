"""Work done before it is asked for: reading in threads, and copies to the device."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from queue import Full, Queue
from typing import TypeVar

import torch

from shards.collate import Batch

_Taken = TypeVar("_Taken")
_Given = TypeVar("_Given")
LOOK_SECONDS = 1.0


def on_device(batches: Iterator[Batch], device: torch.device, depth: int) -> Iterator[Batch]:
    """``batches`` on ``device``, up to ``depth`` of them copied before they are asked for.

    On CUDA a thread copies them on a stream of its own beside the computation.
    """
    if device.type != "cuda":
        yield from (batch.to(device) for batch in batches)
        return
    beside = _beside(device)

    def copy(batch: Batch) -> tuple[Batch, torch.cuda.Event]:
        with torch.cuda.stream(beside):
            copied = batch.to(device)
            return copied, beside.record_event()

    def begin() -> None:  # on the first GPU, where a thread would set up what takes 0.5 GB
        torch.cuda.set_device(beside.device)

    for batch, done in ahead(batches, copy, depth, begin):
        computing = torch.cuda.current_stream(device)
        computing.wait_event(done)
        for tensor in batch.tensors():
            tensor.record_stream(computing)  # its memory was given out on the other stream
        yield batch


@cache
def _beside(device: torch.device) -> torch.cuda.Stream:
    """One for all copies to a device: the allocator keeps what each has freed for itself."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def ahead(
    items: Iterable[_Taken],
    prepare: Callable[[_Taken], _Given],
    depth: int,
    begin: Callable[[], None] = lambda: None,
) -> Iterator[_Given]:
    """``prepare(item)`` for each item, in order, ``depth`` of them made in a thread beforehand.

    The thread calls ``begin`` first. What it meets is raised here, in its turn; closing the
    iterator ends it.
    """
    queue: Queue[tuple[_Given | None, BaseException | None]] = Queue(maxsize=depth)
    ended = threading.Event()

    def put(given: _Given | None, error: BaseException | None) -> None:
        while not ended.is_set():
            with suppress(Full):
                queue.put((given, error), timeout=LOOK_SECONDS)
                return

    def work() -> None:
        try:
            begin()
            for item in items:
                put(prepare(item), None)
                if ended.is_set():
                    return
            put(None, StopIteration())
        except BaseException as error:
            put(None, error)

    threading.Thread(target=work, daemon=True, name="batches ahead").start()
    try:
        while True:
            given, error = queue.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield given  # type: ignore[misc]
    finally:
        ended.set()


def in_threads(
    work: Callable[[_Taken], _Given], items: Iterable[_Taken], threads: int, *, ahead: int
) -> Iterator[_Given]:
    """``work(item)`` for each item, in order, done by ``threads`` threads, ``ahead`` each early."""
    waiting: deque[Future[_Given]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="reading")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads * ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
