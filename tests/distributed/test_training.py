"""What training must give, shown with real processes."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import pytest
from distributed_runs import CONFIG, Run
from store_servers import s3_bucket
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from launch.main import app
from pretrain.stop import INTERRUPTED

STEPS = 12


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def two_processes(token_shards: Path, runs: Path) -> Run:
    settings = ("precision=fp32", "train.steps=20")
    run = Run(runs / "two", token_shards, overrides=settings, by_launcher=True)
    assert run.finish() == 0, run.output
    return run


def test_a_run_that_has_checkpoints_can_be_tuned(two_processes: Run) -> None:
    command = ["tune-batch", str(CONFIG), *two_processes.arguments, "--nproc", "2"]
    done = CliRunner().invoke(app, [*command, "batch.buckets=1", "--memory", "16"])
    assert done.exit_code == 0, done.output
    assert "batch.micro_seconds=24" in done.stdout.split()


def test_one_process_with_twice_the_accumulation_gives_the_same_curve(
    two_processes: Run, token_shards: Path, runs: Path
) -> None:
    one = Run(
        runs / "one",
        token_shards,
        processes=1,
        overrides=("precision=fp32", "train.steps=20", "data.workers=0"),
    )
    assert one.finish() == 0, one.output
    assert len(one.losses()) == 20
    assert one.losses() == pytest.approx(two_processes.losses(), rel=1e-4)


def test_the_loss_falls_and_events_and_checkpoints_are_written(two_processes: Run) -> None:
    losses = two_processes.losses()
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    board = EventAccumulator(str(two_processes.folder / "tensorboard"))
    board.Reload()
    assert [tag.split("/")[-1] for tag in board.Tags()["images"]] == ["alignment"] * 3
    assert {image.step for tag in board.Tags()["images"] for image in board.Images(tag)} == {0, 20}
    assert [name.split("_step_")[1] for name in two_processes.checkpoints()] == ["00000020"]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_killed_run_started_again_continues_bit_for_bit(
    stage: int, token_shards: Path, runs: Path
) -> None:
    settings = (f"train.steps={STEPS}", "checkpoint.every=3", "model.dropout=0.1")
    reference = Run(runs / f"reference{stage}", token_shards, stage, overrides=settings)
    killed = Run(runs / f"killed{stage}", token_shards, stage, overrides=settings)
    assert reference.finish() == 0, reference.output

    at = random.SystemRandom().randrange(4, STEPS - 1)
    killed.kill_after(at)
    assert killed.finish() == 0, killed.output

    assert "resumed run" in killed.output, f"killed at {at}: {killed.output}"
    assert killed.losses() == reference.losses(), f"killed at {at}"
    assert [record["step"] for record in killed.log()] == list(range(1, STEPS + 1))


def test_a_run_goes_on_in_another_stage_on_another_number_of_processes(
    two_processes: Run, token_shards: Path
) -> None:
    more = Run(
        two_processes.folder,
        token_shards,
        stage=3,
        processes=4,
        overrides=("precision=fp32", "train.steps=24"),
    )
    before = two_processes.losses()
    assert more.finish() == 0, more.output
    assert more.losses()[:20] == before
    clips = [record["clips"] for record in more.log()]
    assert [record["data/clips_seen"] for record in more.log()] == [*accumulate(clips)]
    assert len(more.losses()) == 24
    assert more.losses()[-1] < before[0]
    assert "climbs back in 100 steps from step 20: it had reached its target" in more.output
    rates = [record["lr"] for record in more.log()]
    assert rates[20] == pytest.approx(2e-4, rel=0.02)  # the floor; the schedule stands at 3.7e-4


def test_a_stop_file_saves_after_the_current_step_and_the_same_command_goes_on(
    token_shards: Path, runs: Path
) -> None:
    run = Run(runs / "stopped", token_shards, overrides=("train.steps=400", "checkpoint.every=400"))
    process = run.start()
    run.wait_for_steps(3, process)
    (run.folder / "STOP").touch()
    output, _ = process.communicate(timeout=60)
    assert process.rank_codes == [0, 0], output
    reached = int(run.log()[-1]["step"])
    assert f"stopped at step {reached} as asked" in output
    assert int(run.checkpoints()[-1].split("_step_")[1]) == reached < 400

    run.overrides = (f"train.steps={reached}", "checkpoint.every=400")
    assert run.finish() == 0, run.output
    assert f"already at step {reached}, the target is {reached}" in run.output


def segue_launch(run: Run) -> subprocess.Popen[str]:
    """`segue launch` on a terminal's terms: in a process group of its own."""
    return subprocess.Popen(
        [
            Path(sys.executable).with_name("segue"),
            "launch",
            str(CONFIG),
            *run.arguments,
            "--nproc",
            "2",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def processes_of(run: Run) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode().replace("\0", " ")
        except OSError:
            continue
        if f"run.name={run.folder.name} " in command and str(run.folder.parent) in command:
            found.append(command)
    return found


def test_a_second_run_is_refused_ctrl_c_saves_and_a_killed_launcher_leaves_nothing(
    token_shards: Path, runs: Path
) -> None:
    run = Run(runs / "launched", token_shards, overrides=("train.steps=4000",))
    launched = segue_launch(run)
    run.wait_for_steps(3, launched)
    second = run.start()
    output, _ = second.communicate(timeout=60)
    assert second.rank_codes == [2, 2] and "Traceback" not in output
    assert re.search(r"error: run\.name: .* is in use by process", output), output
    os.killpg(launched.pid, signal.SIGINT)  # what a terminal does
    output, _ = launched.communicate(timeout=60)
    assert launched.returncode == INTERRUPTED, output
    assert "by a signal; the same command resumes it" in output
    assert "Traceback" not in output

    reached = len(run.log())
    launched = segue_launch(run)
    run.wait_for_steps(reached + 2, launched)
    launched.kill()
    launched.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while processes_of(run) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(run) == []


def test_damage_met_while_training_stops_all_ranks_and_saves_where_they_are(
    token_shards: Path, runs: Path
) -> None:
    shards = runs / "damaged"
    shutil.copytree(token_shards, shards)
    run = Run(
        runs / "cut",
        shards,
        overrides=("train.steps=4000", "checkpoint.every=4000", "data.workers=2"),
    )
    process = run.start()
    run.wait_for_steps(6, process)
    for shard in shards.glob("*.tar"):
        os.truncate(shard, 3000)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 1  # accelerate launch's; the processes leave with 2
    assert re.search(r"error: data: clip \S+ of shard-\S+ cannot be read .*on_error=skip", output)
    assert "Caught" not in output and output.count("error: data:") == 1
    assert [int(name.split("_step_")[1]) for name in run.checkpoints()] == [len(run.log())]


def test_clips_that_cannot_be_read_are_left_out_by_all_ranks_if_asked(
    token_shards: Path, runs: Path
) -> None:
    shards = runs / "holed"
    shutil.copytree(token_shards, shards)
    content = bytearray((shards / "shard-000000-01.tar").read_bytes())
    content[600:2000] = bytes(1400)
    (shards / "shard-000000-01.tar").write_bytes(content)
    both = ("precision=fp32", "train.epochs=1", "train.steps=null", "data.on_error=skip")
    two = Run(runs / "holed2", shards, overrides=both)
    one = Run(runs / "holed1", shards, processes=1, overrides=both)
    assert two.finish() == 0, two.output
    assert one.finish() == 0, one.output
    assert sum(record["failed_clips"] for record in two.log()) >= 1
    assert sum(record["clips"] + record["failed_clips"] for record in two.log()) == 120
    assert one.losses() == pytest.approx(two.losses(), rel=1e-4)
    errors = [json.loads(line) for line in (two.folder / "data_errors.jsonl").open()]
    assert len(errors) == sum(record["failed_clips"] for record in two.log())
    assert {error["shard"] for error in errors} == {"shard-000000-01.tar"}
    assert "clip(s) left out" in two.output


def test_a_full_disk_costs_checkpoints_and_not_the_run(
    token_shards: Path, disk_of: Callable[[str], Path]
) -> None:
    small_disk = disk_of("40m")
    settings = ("checkpoint.every=2", "train.steps=4", "schedule.name=constant")
    run = Run(small_disk / "full", token_shards, overrides=settings)
    assert run.finish() == 0, run.output
    before = run.checkpoints()
    newest = small_disk / "full" / "checkpoints" / before[-1]
    size = sum(path.stat().st_size for path in newest.iterdir())
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "other").write_bytes(bytes(free - size // 2))

    run.overrides = (*settings, "train.steps=8")
    assert run.finish() != 0
    for step in (6, 8):
        assert f"WARNING: the checkpoint of step {step} could not be written" in run.output
    assert "error: checkpoint: step 8 could not be saved" in run.output
    assert "Traceback" not in run.output.split("error: checkpoint:")[0]
    assert len(run.log()) == 8 and run.checkpoints() == before

    (small_disk / "other").unlink()
    assert run.finish() == 0, run.output
    assert "step 4 of 8" in run.output and len(run.log()) == 8
    assert [name.split("_step_")[1] for name in run.checkpoints()] == ["00000006", "00000008"]


def test_a_killed_run_goes_on_from_a_server(two_processes: Run, token_shards: Path) -> None:
    with s3_bucket("runs") as url:
        settings = ("precision=fp32", "train.steps=20", "checkpoint.every=3")
        folder = two_processes.folder.with_name("remote")
        run = Run(folder, token_shards, overrides=(*settings, f"checkpoint.dir={url}"))
        run.kill_after(11)
        run.processes = 1
        assert run.finish() == 0, run.output
        resumed = f"resumed run remote from {url}/remote/epoch_.*step_0000000[69]"
        assert re.search(resumed, run.output)
        assert run.losses() == pytest.approx(two_processes.losses()[:20], rel=1e-4)
        assert not (folder / "checkpoints").exists() and not list((folder / "upload").iterdir())
        run.overrides = (*settings, "checkpoint.dir=s3://not-made")
        assert run.finish() != 0
        assert "error: checkpoint.dir: s3://not-made/remote: " in run.output


CURRICULUM = (
    "precision=fp32",
    "data.curriculum=[{max_seconds: 2.5}, {from_step: 5, max_seconds: 4}, "
    "{from_step: 9, max_seconds: 8, ramp_steps: 8}]",
    "train.steps=24",
    "checkpoint.every=3",
)


def test_a_curriculum_goes_on_inside_a_stage_on_other_ranks_and_workers(
    token_shards: Path, runs: Path
) -> None:
    whole = Run(runs / "whole", token_shards, processes=1, overrides=CURRICULUM)
    assert whole.finish() == 0, whole.output
    cut = Run(runs / "stages", token_shards, processes=2, overrides=CURRICULUM)
    cut.kill_after(random.SystemRandom().randrange(6, 20))
    cut.processes, cut.overrides = 4, (*CURRICULUM, "data.workers=0", "data.threads=2")
    assert cut.finish() == 0, cut.output
    assert "resumed run" in cut.output
    assert cut.losses() == pytest.approx(whole.losses(), rel=1e-4)
    same = ("step", "epoch", "clips", "tokens", "bucket", "stage", "admitted_buckets", "withheld")
    assert [[r[k] for k in same] for r in cut.log()] == [[r[k] for k in same] for r in whole.log()]
    assert {record["stage"] for record in cut.log()} == {0, 1, 2}
    assert cut.log()[0]["withheld"] > 0.3 and cut.log()[-1]["withheld"] == 0


def test_another_data_order_is_refused_unless_the_epoch_may_begin_again(
    two_processes: Run, token_shards: Path, runs: Path
) -> None:
    folder = shutil.copytree(two_processes.folder, runs / "changed")
    changed = ("precision=fp32", "train.steps=27", "batch.seconds=24", "data.min_seconds=1.2")
    other = Run(folder, token_shards, overrides=changed)
    steps = len(two_processes.log())
    assert other.finish() != 0
    assert "batch.seconds was 48.0 and is now 24.0; data.min_seconds was 0.0" in other.output
    assert "data.on_change=restart_epoch" in other.output and len(other.log()) == steps

    other.overrides = (*changed, "data.on_change=restart_epoch")
    epoch = int(two_processes.log()[-1]["epoch"])
    assert other.finish() == 0, other.output
    assert f"epoch {epoch} begins again" in other.output
    after = other.log()[steps]
    assert epoch < after["epoch"] < epoch + 0.1
    assert other.losses()[steps] < 1.5 * other.losses()[steps - 1]  # weights and optimizer stay
    assert len(other.log()) == 27


def test_another_model_size_in_the_same_run_is_one_sentence(
    two_processes: Run, token_shards: Path
) -> None:
    larger = Run(two_processes.folder, token_shards, overrides=("model.n_layer=3",))
    launched = segue_launch(larger)
    output, _ = launched.communicate(timeout=60)
    assert launched.returncode == 2, output
    assert "Traceback" not in output
    assert "parameter h.layers.2.linear1.bias is absent there" in output
