"""A run that is asked to save, and one that is interrupted."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from distributed_runs import Run, children
from run_server import Started

from pretrain.metrics.files import read_log
from pretrain.stop import INTERRUPTED


def test_a_save_file_is_answered_with_a_checkpoint_and_a_signal_to_one_rank_with_code_75_from_all(
    token_shards: Path, tmp_path: Path
) -> None:
    settings = ("train.steps=4000", "checkpoint.every=4000")
    run = Run(tmp_path / "asked", token_shards, overrides=settings)
    process = run.start()
    assert isinstance(process, Started)
    run.wait_for_steps(3, process)
    (run.folder / "SAVE").touch()
    while (run.folder / "SAVE").exists() or not run.committed():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    saved = int(run.committed()[0].parent.name.split("_step_")[1])
    run.wait_for_steps(saved + 2, process)

    os.kill(children(process.pid)[1], signal.SIGUSR1)
    output, _ = process.communicate(timeout=60)
    assert process.rank_codes == [INTERRUPTED, INTERRUPTED], output
    reached = len(run.log())
    assert f"run asked was stopped at step {reached} by a signal; the same command" in output
    assert "  ETA 0:" in output and "\x1b" not in output and "\x1e" not in output
    assert [int(name.split("_step_")[1]) for name in run.checkpoints()] == [saved, reached]
    saves = read_log(run.folder / "saves.jsonl")
    assert [row["step"] for row in saves] == [saved, reached]
    for row, name in zip(saves, run.checkpoints(), strict=True):
        files = (run.folder / "checkpoints" / name).glob("rank_*")
        assert row["bytes"] == sum(file.stat().st_size for file in files)

    log = run.log()
    times = [record["time"] for record in log]
    assert times == sorted(times) and times[-1] <= saves[-1]["time"]
    assert {record["target"] for record in log} == {4000}

    run.overrides = (f"train.steps={reached + 1}",)
    assert run.finish() == 0, run.output
    assert f"step {reached} of {reached + 1}" in run.output
