"""Previews of real runs: what is on the board, and that training takes no notice of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from distributed_runs import zero_environment
from run_server import Started
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pretrain.metrics import read_log
from shards.pack.config import PackConfig
from shards.pack.job import pack

RATE = 22_050
# Matrices of over 100,000 numbers, which ZeRO-3 does not keep whole between uses.
SETTINGS = """
run: {name: run}
batch: {seconds: 12, micro_seconds: 3, buckets: 2}
data: {workers: 0}
train: {steps: 3, log_every: 1}
checkpoint: {every: 3}
preview: {every: 2}
model: {name: seed_vc, hidden_dim: 320, head: 2, n_layer: 1, content_channels: 39, content_dim: 16,
        head_type: mlp, long_skip: false, sampling_steps: 2}
schedule: {warmup_steps: 2}
optimizer: {lr: 0.001, ema_decay: 0.5}
precision: fp32
"""


@pytest.fixture(scope="module")
def voiced_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve sounds of about a second with all that Seed-VC wants."""
    root, chance = tmp_path_factory.mktemp("voiced"), np.random.default_rng(0)
    (root / "sounds").mkdir()
    for number in range(12):
        time = np.arange(round(RATE * chance.uniform(0.9, 1.3))) / RATE
        tone = 0.3 * np.sin(2 * np.pi * chance.uniform(100, 400) * time)
        noise = 0.02 * chance.standard_normal(len(time))
        soundfile.write(root / "sounds" / f"clip_{number:02d}.wav", tone + noise, RATE)
    features = ("content.mfcc", "style.mean_mel")
    pack(root / "sounds", root / "shards", PackConfig(features=features), workers=0)
    return root / "shards"


def board_of(shards: Path, folder: Path, stage: int, *more: str) -> EventAccumulator:
    """What TensorBoard shows of a run in two processes."""
    folder.mkdir()
    (folder / "run.yaml").write_text(SETTINGS)
    words = [str(folder / "run.yaml"), f"data.path={shards}", f"run.dir={folder}", *more]
    started = Started(words, 2, zero_environment(stage), folder / "said")
    output, _ = started.communicate()
    assert started.rank_codes == [0, 0], output
    board = EventAccumulator(str(folder / "run" / "tensorboard"), {"images": 0, "audio": 0})
    board.Reload()
    return board


def test_pictures_and_sounds_are_drawn_and_training_takes_no_notice(
    voiced_shards: Path, tmp_path: Path
) -> None:
    board = board_of(voiced_shards, tmp_path / "with", 3, "preview.clips=1")
    without = board_of(voiced_shards, tmp_path / "without", 3, "preview.clips=0")
    images, sounds = board.Tags()["images"], board.Tags()["audio"]
    assert len(images) == 1 and len(sounds) == 2
    assert not without.Tags()["images"] + without.Tags()["audio"]
    of_clip = images[0].removesuffix("/mel")
    assert of_clip.startswith("preview/clip_")
    assert sorted(sounds) == [f"{of_clip}/sampled", f"{of_clip}/target"]
    drawn = board.Images(images[0])
    assert [one.step for one in drawn] == [0, 2, 3]
    assert len({one.encoded_image_string for one in drawn}) == 3
    (target,) = {one.encoded_audio_string for one in board.Audio(f"{of_clip}/target")}
    assert len(target) > RATE
    losses = [
        [record["loss"] for record in read_log(tmp_path / name / "run" / "log.jsonl")]
        for name in ("with", "without")
    ]
    assert len(losses[0]) == 3 and losses[0] == losses[1]
