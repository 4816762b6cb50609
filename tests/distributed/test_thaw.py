"""Freezing and thawing under every ZeRO stage: what `thaw_process.py` checks, in real processes."""

from __future__ import annotations

from pathlib import Path

from distributed_runs import run_script

PROCESS = Path(__file__).with_name("thaw_process.py")


def test_what_is_frozen_stays_and_what_thaws_goes_on_in_every_stage(tmp_path: Path) -> None:
    output = run_script(PROCESS, str(tmp_path))
    assert output.count("crossed stage") == 8, output
