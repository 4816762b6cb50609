from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from pretrain.checkpoint.saver import Saved
from pretrain.metrics.board import Board
from pretrain.metrics.files import read_log
from pretrain.metrics.gauges import Computing, Gauge, HostMemory
from pretrain.metrics.lengths import Lengths
from pretrain.metrics.peaks import peak_flops
from pretrain.metrics.progress import Forecast, Progress
from pretrain.metrics.record import StepRecord
from pretrain.metrics.recorder import Metrics
from pretrain.metrics.terminal import Terminal
from pretrain.pace import LEAST_STEPS, Pace
from pretrain.tally import Seen, Tally, by_length
from shards.reading import Failure

CORPUS = np.array([0.2, 1.7, 1.9, 55.0])
HOSTS = ("node1", "node1", "node2", "node2")


def terminal(
    say: Callable[[str], object] = lambda _: None, every: int = 1, *, drawn: bool = False
) -> Terminal:
    return Terminal(say, every, HOSTS, unit="clips", next_save=lambda step: 8, drawn=drawn)


def opened(
    folder: Path,
    start: int,
    terminal: Terminal,
    gauges: Sequence[Gauge] = (),
    tally: Tally | None = None,
) -> Metrics:
    """With TensorBoard alone; lengths of clips are drawn at every third step."""
    board = Board(folder / "tensorboard", start, {"optimizer.lr": 1e-3, "precision": "bf16"})
    lengths = Lengths(tally or Tally(Seen()), lambda: by_length(CORPUS).astype(np.int64), 3)
    return Metrics(folder, start, terminal, [board], gauges, lengths)


def record(step: int, loss: float = 2.0) -> StepRecord:
    return StepRecord(
        step=step,
        target=9,
        start=0,
        processes=4,
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
        flops=1e12,
        bucket=1,
        spent={"data": 0.1, "forward": 0.15},
        waited=0.2,
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
    with opened(tmp_path, 0, terminal()) as metrics:
        metrics.failed(
            7, (Failure("a.tar", "k", "gone", "read"), Failure("b.tar", "l", "cut", "decode"))
        )
    lines = [json.loads(line) for line in (tmp_path / "data_errors.jsonl").read_text().splitlines()]
    assert lines[0] == {"step": 7, "shard": "a.tar", "key": "k", "reason": "gone", "kind": "read"}
    assert lines[1]["key"] == "l"
    with opened(tmp_path, 6, terminal()):
        assert read_log(tmp_path / "data_errors.jsonl") == []


def test_the_log_has_one_object_a_step_with_the_promised_keys(tmp_path: Path) -> None:
    with opened(tmp_path, 0, terminal()) as metrics:
        metrics.write(record(1))
    (line,) = read_log(tmp_path / "log.jsonl")
    assert {"step", "epoch", "loss", "lr", "tokens", "padding", "seconds", "top3"} <= line.keys()
    assert line["tokens_per_second"] == 200.0
    assert line["data_share"] == 0.4  # the mean of all ranks, not this one's own
    assert (line["forward_seconds"], line["memory/host_gb"]) == (0.15, 1.5)
    assert line["optimizer/lr/head/decay"] == 1e-4


def test_a_resumed_log_is_cut_back_to_the_restored_step(tmp_path: Path) -> None:
    with opened(tmp_path, 0, terminal()) as metrics:
        for step in range(1, 8):
            metrics.write(record(step))
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 8, "lo')  # what a kill leaves
    with opened(tmp_path, 5, terminal()) as metrics:
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
    with opened(tmp_path, 0, terminal(said.append, every)) as metrics:
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
    with opened(tmp_path, 0, terminal()) as metrics:
        for step in (2, 4, 6):
            metrics.saved(Saved(step, seconds=step / 4, bytes=1000, time=1.7e9 + step))
    with opened(tmp_path, 4, terminal()) as metrics:
        metrics.saved(Saved(6, seconds=9.0, bytes=1000, time=1.8e9))
    rows = read_log(tmp_path / "saves.jsonl")
    assert [(row["step"], row["seconds"]) for row in rows] == [(2, 0.5), (4, 1.0), (6, 9.0)]
    assert rows[-1] == {"step": 6, "seconds": 9.0, "bytes": 1000, "time": 1.8e9}
    drawn = events_of(tmp_path).Scalars("speed/save_seconds")
    assert [(event.step, event.value) for event in drawn] == [(2, 0.5), (4, 1.0), (6, 9.0)]


def test_tensorboard_shows_one_value_a_step_after_a_resume(tmp_path: Path) -> None:
    with opened(tmp_path, 0, terminal()) as metrics:
        for step in range(1, 8):
            metrics.write(record(step))
    with opened(tmp_path, 5, terminal()) as metrics:
        metrics.write(record(6, loss=9.0))
    events = events_of(tmp_path)
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert events.Scalars("train/loss")[-1].value == 9.0
    assert events.Scalars("train/top3")[-1].value == 0.25
    assert events.Scalars("optimizer/lr/head/decay")[-1].value == pytest.approx(1e-4)


def test_a_loss_that_is_not_finite_is_still_json(tmp_path: Path) -> None:
    with opened(tmp_path, 0, terminal()) as metrics:
        metrics.write(record(1, loss=float("nan")))
    text = (tmp_path / "log.jsonl").read_text()
    assert json.loads(text, parse_constant=lambda _: "not json")["loss"] is None


def test_a_full_disk_leaves_steps_out_and_does_not_stop_the_run(
    disk_of: Callable[[str], Path],
) -> None:
    disk, said = disk_of("128k"), list[str]()
    with opened(disk / "run", 0, terminal(said.append, 1000)) as metrics:
        metrics.write(record(1))
        (disk / "other").write_bytes(bytes(128 * 1024 - 16 * 1024))
        for step in range(2, 400):
            metrics.write(record(step))
        (disk / "other").unlink()
        for step in range(400, 420):
            metrics.write(record(step))
    steps = [record["step"] for record in read_log(disk / "run" / "log.jsonl")]
    assert steps[:2] == [1, 2] and steps[-20:] == list(range(400, 420))
    assert len(steps) < 419 and steps == sorted(set(steps))
    points = [point.step for point in events_of(disk / "run").Scalars("train/loss")]
    assert points[:2] == [1, 2] and points[-20:] == steps[-20:] and points == sorted(set(points))
    assert len([line for line in said if "WARNING: no space left for" in line]) == 1


def test_a_board_begun_on_a_full_disk_opens_with_the_first_point_that_fits(
    disk_of: Callable[[str], Path],
) -> None:
    disk = disk_of("128k")
    (disk / "run" / "tensorboard").mkdir(parents=True)
    free = os.statvfs(disk)
    (disk / "other").write_bytes(bytes(free.f_bavail * free.f_frsize))
    with closing(Board(disk / "run" / "tensorboard", 0, {"optimizer.lr": 1e-3})) as board:
        board.draw(1, {"train/loss": 1.0})
        assert "train/loss" not in events_of(disk / "run").Tags()["scalars"]
        (disk / "other").unlink()
        board.draw(9, {"train/loss": 2.0})
    events = events_of(disk / "run")
    assert [(point.step, point.value) for point in events.Scalars("train/loss")] == [(9, 2.0)]
    assert "custom_scalars__config__" in events.Tags()["tensors"]


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


class Once:
    """A gauge that speaks at the first step."""

    def read(self, record: StepRecord) -> Mapping[str, float]:
        return {"health/own": 7.0} if record.step == 1 else {}


def test_gauges_are_read_at_each_step_into_the_log_and_onto_the_board(tmp_path: Path) -> None:
    gauges = [Once(), HostMemory(), Computing(4, "NVIDIA H100 80GB HBM3")]
    with opened(tmp_path, 0, terminal(), gauges) as metrics:
        metrics.write(record(1))
        metrics.write(record(2))
    first, second = read_log(tmp_path / "log.jsonl")
    assert first["health/own"] == 7.0 and "health/own" not in second
    assert first["memory/host_workers_gb"] >= 0
    assert first["speed/tflops"] == 2.0
    assert first["speed/mfu"] == pytest.approx(2.0 / (4 * 989.4))
    (drawn,) = events_of(tmp_path).Scalars("health/own")
    assert (drawn.step, drawn.value) == (1, 7.0)


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H200", 989.4),
        ("NVIDIA B200", 2250),
        ("NVIDIA GB200", 2500),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 4090 D", 147),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 3090", 71),
        ("Tesla V100-SXM2-32GB", 125),
        ("Quadro K620", None),
    ],
)
def test_what_a_gpu_could_compute_is_known_by_its_name(name: str, tera: float | None) -> None:
    peak = peak_flops(name)
    assert (peak and peak / 1e12) == tera


def test_the_board_has_a_first_page_settings_and_lengths_of_clips(tmp_path: Path) -> None:
    tally = Tally(Seen(clips=1, seconds=50, lengths=(2,), errors={"read": 1}))
    tally.add(2, 3.4, by_length(np.array([1.6, 1.8])), [Failure("a.tar", "k", "gone", "decode")])
    for start in (0, 2):  # the second time it goes on
        with opened(tmp_path, start, terminal(), [tally, HostMemory()], tally) as metrics:
            for step in range(start + 1, 4):
                metrics.write(record(step))
    board = events_of(tmp_path)
    assert [event.step for event in board.Scalars("data/clips_seen")] == [1, 2, 3]
    assert board.Scalars("data/clips_seen")[-1].value == 3
    kinds = [board.Scalars(f"health/data_errors/{kind}")[-1].value for kind in ("read", "decode")]
    assert kinds == [1, 1]
    (trained,) = board.Histograms("data/clip_seconds/trained")
    (corpus,) = board.Histograms("data/clip_seconds/corpus")
    assert trained.step == corpus.step == 3
    assert trained.histogram_value.bucket[:4] == [2, 0, 0, 2]
    assert (corpus.histogram_value.num, corpus.histogram_value.bucket[-1]) == (4, 1)
    layout = Layout.FromString(
        board.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0]
    )
    assert layout.category[0].title == "Health"
    shown = [pattern for chart in layout.category[0].chart for pattern in chart.multiline.tag]
    tags = board.Tags()["scalars"]
    bare = [pattern for pattern in shown if not any(re.search(pattern, tag) for tag in tags)]
    assert bare == ["^validation/loss$"]  # there was none
    session = board.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = HParamsPluginData.FromString(session).session_start_info.hparams
    assert hparams["precision"].string_value == "bf16"
