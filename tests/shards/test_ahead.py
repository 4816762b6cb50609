from __future__ import annotations

import threading
import time

import pytest
import torch

from shards.ahead import ahead, in_threads, on_device
from shards.collate import Batch


def test_items_arrive_in_order_and_are_prepared_before_they_are_asked_for() -> None:
    prepared: list[int] = []

    def prepare(item: int) -> int:
        prepared.append(item)
        return 10 * item

    given = ahead(range(9), prepare, depth=3)
    assert next(given) == 0
    deadline = time.monotonic() + 10
    while len(prepared) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert prepared[:4] == [0, 1, 2, 3] and len(prepared) <= 5
    assert [*given] == [10, 20, 30, 40, 50, 60, 70, 80]


def test_what_the_thread_meets_is_raised_in_its_turn() -> None:
    def prepare(item: int) -> int:
        if item == 2:
            raise KeyError("two")
        return item

    given = ahead(range(5), prepare, depth=2)
    assert [next(given), next(given)] == [0, 1]
    with pytest.raises(KeyError, match="two"):
        next(given)


def test_a_closed_iterator_ends_its_thread() -> None:
    given = ahead(range(1000), lambda item: item, depth=1)
    next(given)
    given.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while any(t.name == "batches ahead" for t in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_keep_the_order_and_raise_where_they_must(threads: int) -> None:
    def work(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        if item == 17:
            raise ValueError("seventeen")
        return item

    given = in_threads(work, range(30), threads, ahead=2)
    assert [next(given) for _ in range(17)] == list(range(17))
    with pytest.raises(ValueError, match="seventeen"):
        next(given)


def test_on_the_cpu_batches_pass_unchanged() -> None:
    batch = Batch(0, 0, ("a",), torch.zeros(1).long().numpy(), {"x": torch.ones(1, 2)}, {})
    (given,) = on_device(iter([batch]), torch.device("cpu"), depth=2)
    assert torch.equal(given.arrays["x"], batch.arrays["x"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: run it on one")
def test_on_cuda_batches_are_copied_beside_the_computation() -> None:
    device = torch.device("cuda")
    rows = torch.arange(1).numpy()
    batches = [
        Batch(n, 0, ("a",), rows, {"x": torch.full((1, 1000), float(n))}, {}).pin_memory()
        for n in range(20)
    ]
    for n, given in enumerate(on_device(iter(batches), device, depth=3)):
        assert given.arrays["x"].device.type == "cuda"
        assert float(given.arrays["x"].sum()) == 1000 * n
