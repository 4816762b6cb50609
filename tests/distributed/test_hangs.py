"""A rank that waits for its data: named where it is slow, ended with all others where it hangs."""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from distributed_runs import Run, children
from run_server import Started

SETTINGS = ("train.steps=4000", "data.workers=1", "data.prefetch=1", "train.hang_timeout=3")


@dataclass(frozen=True)
class Hung:
    """A run whose rank 1 lacked data for a while, and later for good; how both ranks ended."""

    run: Run
    output: str
    codes: list[int]


def signal_loaders(rank: int, number: int) -> None:
    """Send a signal to the loader processes of a rank; they end with it, stopped or not."""
    for loader in children(rank):
        os.kill(loader, number)


@pytest.fixture(scope="module")
def hung(token_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Hung:
    run = Run(tmp_path_factory.mktemp("hung") / "run", token_shards, overrides=SETTINGS)
    process = run.start()
    assert isinstance(process, Started)
    run.wait_for_steps(3, process)
    slow = children(process.pid)[1]
    signal_loaders(slow, signal.SIGSTOP)
    time.sleep(1)
    steps = len(run.log())
    signal_loaders(slow, signal.SIGCONT)
    run.wait_for_steps(steps + 3, process)
    signal_loaders(slow, signal.SIGSTOP)
    output, _ = process.communicate(timeout=60)
    return Hung(run, output, process.rank_codes)


def test_the_log_names_a_rank_that_held_the_others_up(hung: Hung) -> None:
    log = hung.run.log()
    slow = max(log[1:], key=lambda record: record["slowest_seconds"])
    assert slow["slowest_rank"] == 1 and slow["slowest_seconds"] > 0.5
    assert "slowest_seconds" not in log[0]  # it would be told of the step before
    assert all(0 < r["median_seconds"] <= r["slowest_seconds"] for r in log[1:])


def test_all_ranks_of_a_run_that_hangs_are_ended_by_the_kernel(hung: Hung) -> None:
    assert hung.codes == [-signal.SIGALRM, -signal.SIGALRM], hung.output


def test_every_rank_has_written_where_it_was(hung: Hung) -> None:
    told = [path.read_text() for path in sorted(hung.run.folder.glob("hang/*/rank_*.txt"))]
    for rank, text in enumerate(told):
        assert re.match(rf"rank {rank}, process \d+ on {os.uname().nodename}\n", text)
        assert "pretrain/loop.py" in text and "in train" in text
    assert "in all_reduce" in told[0]
    assert "in _pull" in told[1] and "in all_reduce" not in told[1]


def test_the_next_start_keeps_what_was_written_and_a_clean_end_adds_nothing(hung: Hung) -> None:
    before = sorted(hung.run.folder.glob("hang/*/*"))
    run = hung.run
    run.overrides = (*SETTINGS, "train.steps=2")
    assert run.finish() == 0, run.output
    assert sorted(run.folder.glob("hang/*/*")) == before and len(before) == 2
