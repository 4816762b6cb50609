from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from accelerate import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pretrain.engine import accelerate_tracker
from pretrain.metrics.trackers import TRACKERS, Tracker, plain, refuse_unknown
from shards.errors import UserError


def test_the_trackers_are_those_that_accelerate_has() -> None:
    assert set(TRACKERS) == set(LOGGER_TYPE_TO_CLASS)


def test_a_tracker_that_is_not_there_is_refused_in_a_sentence() -> None:
    refuse_unknown(["tensorboard"])
    with pytest.raises(UserError, match=r"no tracker 'wandbb'; did you mean wandb\?"):
        refuse_unknown(["tensorboard", "wandbb"])
    with pytest.raises(UserError, match=r"needs the package clearml.* pip install clearml"):
        refuse_unknown(["clearml"])


def test_what_is_drawn_reaches_one_of_accelerates_trackers_in_order(tmp_path: Path) -> None:
    PartialState(cpu=True)
    said = list[str]()
    begin = partial(accelerate_tracker, "tensorboard", "run", tmp_path, {"optimizer.lr": 1e-3})
    tracker = Tracker("tensorboard", begin, said.append)
    for step in range(1, 50):
        tracker.draw(step, {"train/loss": 1 / step, "optimizer/lr/*.norm*/decay": 1e-3})
    tracker.close()
    board = EventAccumulator(str(tmp_path / "run"))
    board.Reload()
    assert [event.step for event in board.Scalars("train/loss")] == [*range(1, 50)]
    assert board.Scalars("optimizer/lr._.norm_.decay")
    assert not said


def test_a_tracker_that_fails_is_told_once_and_left(tmp_path: Path) -> None:
    said = list[str]()
    (tmp_path / "file").touch()
    begin = partial(accelerate_tracker, "tensorboard", "run", tmp_path / "file", {})
    tracker = Tracker("tensorboard", begin, said.append)
    for step in range(5):
        tracker.draw(step, {"train/loss": 1.0})
    tracker.close()
    assert len(said) == 1 and "WARNING: the tracker tensorboard gets nothing more" in said[0]


def test_a_tag_is_no_folder_of_another() -> None:
    tags = ["optimizer/lr", "optimizer/lr/head/decay", "validation/seconds/0-3/loss"]
    assert [plain(tag) for tag in tags] == [
        "optimizer/lr",
        "optimizer/lr.head.decay",
        "validation/seconds.0-3.loss",
    ]
