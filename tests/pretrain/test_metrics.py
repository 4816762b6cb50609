from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pretrain.checkpoint.saver import Saved
from pretrain.metrics.files import read_log
from pretrain.metrics.progress import Forecast, Progress
from pretrain.metrics.record import StepRecord
from pretrain.metrics.recorder import Metrics
from pretrain.metrics.terminal import Terminal
from pretrain.pace import LEAST_STEPS, Pace
from shards.reading import Failure

HOSTS = ("node1", "node1", "node2", "node2")


def terminal(
    say: Callable[[str], object] = lambda _: None, every: int = 1, *, drawn: bool = False
) -> Terminal:
    return Terminal(say, every, HOSTS, unit="clips", next_save=lambda step: 8, drawn=drawn)


def record(step: int, loss: float = 2.0) -> StepRecord:
    return StepRecord(
        step=step,
        target=9,
        time=1.7e9,
        epoch=step / 10,
        loss=loss,
        lr=1e-3,
        rates={"decay": 1e-3, "head/decay": 1e-4},
        tokens=100,
        padding=0.1,
        seconds=0.5,
        parts={"top3": 0.25},
        gradient_norm=1.0,
        skipped=0,
        clips=4,
        audio_seconds=20.0,
        bucket=1,
        spent={"data": 0.1, "forward": 0.15},
        pace=Pace(np.array([0.2, 0.2, 0.2, 0.3])),
        balance=1.01,
        failed_clips=0,
        stage=0,
        admitted_buckets=4,
        withheld=0.0,
        gauges={"memory/host_gb": 1.5},
    )


def events_of(run_folder: Path) -> EventAccumulator:
    """What TensorBoard shows of a run."""
    events = EventAccumulator(str(run_folder / "tensorboard"))
    events.Reload()
    return events


def test_clips_left_out_are_listed_with_step_shard_and_key(tmp_path: Path) -> None:
    with Metrics(tmp_path, 0, terminal()) as metrics:
        metrics.failed(7, (Failure("a.tar", "k", "gone"), Failure("b.tar", "l", "cut")))
    lines = [json.loads(line) for line in (tmp_path / "data_errors.jsonl").read_text().splitlines()]
    assert lines[0] == {"step": 7, "shard": "a.tar", "key": "k", "reason": "gone"}
    assert lines[1]["key"] == "l"


def test_the_log_has_one_object_a_step_with_the_promised_keys(tmp_path: Path) -> None:
    with Metrics(tmp_path, 0, terminal()) as metrics:
        metrics.write(record(1))
    (line,) = read_log(tmp_path / "log.jsonl")
    assert {"step", "epoch", "loss", "lr", "tokens", "padding", "seconds", "top3"} <= line.keys()
    assert line["tokens_per_second"] == 200.0
    assert (line["forward_seconds"], line["memory/host_gb"]) == (0.15, 1.5)


def test_a_resumed_log_is_cut_back_to_the_restored_step(tmp_path: Path) -> None:
    with Metrics(tmp_path, 0, terminal()) as metrics:
        for step in range(1, 8):
            metrics.write(record(step))
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 8, "lo')  # what a kill leaves
    with Metrics(tmp_path, 5, terminal()) as metrics:
        metrics.write(record(6, loss=9.0))
    assert [(r["step"], r["loss"]) for r in read_log(tmp_path / "log.jsonl")] == [
        *((step, 2.0) for step in range(1, 6)),
        (6, 9.0),
    ]


def test_a_rank_that_holds_others_up_is_drawn_and_named_under_the_line_of_a_step(
    tmp_path: Path,
) -> None:
    said = list[str]()
    every = LEAST_STEPS
    with Metrics(tmp_path, 0, terminal(said.append, every)) as metrics:
        for step in range(1, 2 * every + 1):
            metrics.write(record(step))
    lines = [text for text in said if not text.startswith("step 9/9")]  # the target's own
    assert [text.split("  ")[0] for text in lines[::2]] == [
        f"step {every}/9",
        f"step {2 * every}/9",
    ]
    slow = "rank 3 on node2 is the slowest: busy 0.300 s a step, the median rank 0.200 s"
    assert lines[1::2] == [slow, slow]
    (row, *_) = read_log(tmp_path / "log.jsonl")
    assert (row["slowest_rank"], row["slowest_seconds"], row["median_seconds"]) == (3, 0.3, 0.2)
    events = events_of(tmp_path)
    assert {event.value for event in events.Scalars("ranks/slowest")} == {3}
    assert events.Scalars("ranks/slowest_over_median")[0].value == pytest.approx(1.5)


def test_saves_are_listed_and_drawn_and_cut_back_where_the_run_goes_on(tmp_path: Path) -> None:
    with Metrics(tmp_path, 0, terminal()) as metrics:
        for step in (2, 4, 6):
            metrics.saved(Saved(step, seconds=step / 4, bytes=1000, time=1.7e9 + step))
    with Metrics(tmp_path, 4, terminal()) as metrics:
        metrics.saved(Saved(6, seconds=9.0, bytes=1000, time=1.8e9))
    rows = read_log(tmp_path / "saves.jsonl")
    assert [(row["step"], row["seconds"]) for row in rows] == [(2, 0.5), (4, 1.0), (6, 9.0)]
    assert rows[-1] == {"step": 6, "seconds": 9.0, "bytes": 1000, "time": 1.8e9}
    drawn = events_of(tmp_path).Scalars("speed/save_seconds")
    assert [(event.step, event.value) for event in drawn] == [(2, 0.5), (4, 1.0), (6, 9.0)]


def test_tensorboard_shows_one_value_a_step_after_a_resume(tmp_path: Path) -> None:
    with Metrics(tmp_path, 0, terminal()) as metrics:
        for step in range(1, 8):
            metrics.write(record(step))
    with Metrics(tmp_path, 5, terminal()) as metrics:
        metrics.write(record(6, loss=9.0))
    events = events_of(tmp_path)
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert events.Scalars("train/loss")[-1].value == 9.0
    assert events.Scalars("train/top3")[-1].value == 0.25
    assert events.Scalars("optimizer/lr/head/decay")[-1].value == pytest.approx(1e-4)


def test_a_loss_that_is_not_finite_is_still_json(tmp_path: Path) -> None:
    with Metrics(tmp_path, 0, terminal()) as metrics:
        metrics.write(record(1, loss=float("nan")))
    text = (tmp_path / "log.jsonl").read_text()
    assert json.loads(text, parse_constant=lambda _: "not json")["loss"] is None


def test_a_full_disk_leaves_steps_out_and_does_not_stop_the_run(
    disk_of: Callable[[str], Path],
) -> None:
    disk, said = disk_of("64k"), list[str]()
    with Metrics(disk / "run", 0, terminal(said.append, 1000)) as metrics:
        metrics.write(record(1))
        (disk / "other").write_bytes(bytes(64 * 1024 - 16 * 1024))
        for step in range(2, 400):
            metrics.write(record(step))
        (disk / "other").unlink()
        for step in range(400, 420):
            metrics.write(record(step))
    steps = [record["step"] for record in read_log(disk / "run" / "log.jsonl")]
    assert steps[:2] == [1, 2] and steps[-20:] == list(range(400, 420))
    assert len(steps) < 419 and steps == sorted(set(steps))
    assert len([line for line in said if "WARNING: no space left for" in line]) == 1


def test_what_is_left_counts_validations_and_saves_between_steps_and_not_the_first_step() -> None:
    forecast = Forecast(next_save=lambda step: 8)
    slow = replace(record(1), seconds=60.0, time=100.0)
    assert forecast.after(slow, "clips").left is None
    for step in (2, 3, 4, 5):  # 3 s each, of which 1 s goes to what is done between them
        now = replace(record(step), seconds=2.0, time=100.0 + 3 * (step - 1))
        progress = forecast.after(now, "clips")
    assert progress.left == pytest.approx(4 * 3.0) and progress.to_save == pytest.approx(3 * 3.0)


def test_a_drawn_terminal_gets_states_and_a_plain_one_lines() -> None:
    plain, drawn = list[str](), list[str]()
    for said, is_drawn in ((plain, False), (drawn, True)):
        shown = terminal(said.append, every=3, drawn=is_drawn)
        for step in range(1, 10):
            shown.step(record(step))
    assert [line.split("  ")[0] for line in plain] == ["step 3/9", "step 6/9", "step 9/9"]
    assert "200 clips/s  40 x real time" in plain[0] and plain[-1].endswith("ETA 0:00:00")
    last = Progress.parsed(drawn[-1])
    assert last and (last.step, last.unit, last.left) == (9, "clips", 0.0)
