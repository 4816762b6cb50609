"""How long before its time limit a job is warned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shards.errors import UserError
from slurm.lead import lead_of, longest, needed, seconds_of


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90", 5400),
        ("1:30", 90),
        ("24:00:00", 86400),
        ("2-0", 172800),
        ("2-00:30", 174600),
        ("1-12:30:15", 131415),
    ],
)
def test_sbatchs_notations(written: str, seconds: int) -> None:
    assert seconds_of(written) == seconds


@pytest.mark.parametrize("written", ["", "soon", "1h", "1:2:3:4", "-5", "0", "00:00"])
def test_what_is_no_time_limit(written: str) -> None:
    with pytest.raises(UserError, match=r"--time"):
        seconds_of(written)


def test_a_new_run_is_warned_early_but_not_for_most_of_its_time(tmp_path: Path) -> None:
    assert lead_of(None, "24:00:00", tmp_path) == (300, "")
    assert lead_of(None, "10", tmp_path) == (120, "")
    assert lead_of(45, "10", tmp_path) == (45, "")


def test_a_lead_that_leaves_no_time_to_train_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"--time 5: the job would be warned 300 s before .*; "
        r"give it --time 00:07:00 or more, or a smaller --lead$",
    ):
        lead_of(300, "5", tmp_path)


@pytest.mark.parametrize("asked", [None, 60])
def test_a_run_that_takes_longer_than_its_time_says_so(asked: int | None, tmp_path: Path) -> None:
    (tmp_path / "saves.jsonl").write_text('{"seconds": 3600}')  # * 1.5 + 30 = 5430
    with pytest.raises(
        UserError,
        match=r"warned 5430 s before its end, which leaves no time to train; this run's longest "
        r"step, validation and save took 3600 s together: give it --time 01:32:00 or more$",
    ):
        lead_of(asked, "60", tmp_path)
    lead, _ = lead_of(asked, "01:32:00", tmp_path)
    assert lead == 5430


def test_a_lead_is_never_more_than_slurm_takes(tmp_path: Path) -> None:
    (tmp_path / "saves.jsonl").write_text('{"seconds": 50000}')
    lead, word = lead_of(None, "2-00", tmp_path)
    assert lead == 65535
    assert word.startswith("the warning comes 65535 s before the time limit instead of 300 s")
    assert lead_of(65535, "2-00", tmp_path) == (65535, "")


def test_the_runs_own_steps_and_saves_raise_it(tmp_path: Path) -> None:
    records = {
        "log.jsonl": [{"seconds": 3.0}, {"seconds": 40.0}],
        "saves.jsonl": [{"seconds": 100.0}],
        "validation.jsonl": [{"seconds": 60.0}, {"step": 1}],
    }
    for name, lines in records.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / name).write_text(text + '{"half')
    assert longest(tmp_path) == 40 + 100 + 60
    assert needed(200) == 330  # 200 * 1.5 + 30
    lead, word = lead_of(60, "24:00:00", tmp_path)
    assert lead == 330
    assert word == (
        "the warning comes 330 s before the time limit instead of 60 s: this run's longest step, "
        "validation and save took 200 s together"
    )
    assert lead_of(600, "24:00:00", tmp_path) == (600, "")
