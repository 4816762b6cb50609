from __future__ import annotations

import time

import pytest
import torch

from pretrain.stopwatch import stopwatch


def test_what_is_done_while_it_runs_counts_and_nothing_else() -> None:
    clock, began = stopwatch(torch.device("cpu")), time.perf_counter()
    for _ in range(2):
        time.sleep(0.1)
        with clock.running("forward"):
            time.sleep(0.15)
    assert 0.3 <= clock.seconds("forward") <= time.perf_counter() - began - 0.2
    clock.reset()
    assert clock.seconds("forward") == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: run it on one")
def test_on_cuda_the_streams_work_counts_and_not_the_hosts() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    clock, matrix = stopwatch(device), torch.randn(2048, 2048, device=device)
    matrix @ matrix  # cuBLAS takes its time at first
    torch.cuda.synchronize(device)
    for _ in range(2):
        with clock.running("forward"):
            for _ in range(10):
                matrix @ matrix
        torch.cuda.synchronize(device)
        time.sleep(0.5)
    assert 0 < clock.seconds("forward") < 0.5
    clock.reset()
    assert clock.seconds("forward") == 0
