"""Boards of real processes: what `board_process.py` checks."""

from __future__ import annotations

from pathlib import Path

from distributed_runs import run_script

PROCESS = Path(__file__).with_name("board_process.py")


def test_threads_leave_each_other_words_wherever_rank_0_is_and_hold_no_collective_up() -> None:
    output = run_script(PROCESS, processes=3)
    assert output.count("checked") == 3, output
