"""Previews of real runs: what is on the board, and that training takes no notice of them."""

from __future__ import annotations

from pathlib import Path

from distributed_runs import Run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

DEMO = Path("configs/seed_vc_demo.yaml").resolve()
SIZES = (
    "model.hidden_dim=320",  # matrices of over 100,000 numbers: ZeRO-3 lets go of them
    "model.n_layer=1",
    "model.content_dim=16",
    "model.head_type=mlp",
    "model.sampling_steps=2",
    "data.curriculum=[]",
    "data.workers=0",
    "batch.seconds=9.6",
    "batch.micro_seconds=2.4",
    "batch.buckets=3",
    "train.steps=3",
    "train.log_every=1",
    "preview.every=2",
)


def board_of(run: Run) -> EventAccumulator:
    """What TensorBoard shows of a run to its end."""
    assert run.finish() == 0, run.output
    board = EventAccumulator(str(run.folder / "tensorboard"), {"images": 0, "audio": 0})
    board.Reload()
    return board


def test_pictures_and_sounds_are_drawn_and_training_takes_no_notice(
    voiced_shards: Path, tmp_path: Path
) -> None:
    shown, blind = (
        Run(
            tmp_path / str(clips),
            voiced_shards,
            stage=3,
            overrides=(f"preview.clips={clips}",),
            config=DEMO,
            sizes=SIZES,
        )
        for clips in (1, 0)
    )
    board, without = board_of(shown), board_of(blind)
    assert not without.Tags()["images"] + without.Tags()["audio"]
    (picture,) = board.Tags()["images"]
    of_clip = picture.removesuffix("/mel")
    assert of_clip.startswith("preview/clip_")
    assert sorted(board.Tags()["audio"]) == [f"{of_clip}/sampled", f"{of_clip}/target"]
    drawn = board.Images(picture)
    assert [one.step for one in drawn] == [0, 2, 3]
    assert len({one.encoded_image_string for one in drawn}) == 3
    (target,) = {one.encoded_audio_string for one in board.Audio(f"{of_clip}/target")}
    assert len(target) > 20_000
    assert len(shown.losses()) == 3 and shown.losses() == blind.losses()
