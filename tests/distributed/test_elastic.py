"""What one world size and ZeRO stage has saved, every other restores, in real processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from distributed_runs import run_script

PROCESS = Path(__file__).with_name("elastic_process.py")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of every stage, from two processes, and the losses of the steps after them."""
    folder = tmp_path_factory.mktemp("saved")
    run_script(PROCESS, "save", str(folder))
    return folder


@pytest.mark.parametrize(
    "processes",
    [3, *(pytest.param(count, marks=pytest.mark.slow) for count in (1, 2, 4))],
)
def test_every_stage_restores_what_any_stage_saved_and_goes_on_alike(
    processes: int, saved: Path
) -> None:
    assert "pairs 37" in run_script(PROCESS, "load", str(saved), processes=processes)
