"""What becomes of a job whose processes have ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launch.failure import Failure, culprit, keep, kept
from slurm.after import NOBODY, Ending, Limits, judge, main, suspects

DONE = Ending(
    "7", 0, "RUNNING", 0, warned=False, follows=False, told_to_stop=False, nodes=("n1", "n2")
)
LIMITS = Limits(requeues=2, failures=2, excludes=True)
BROKEN = Failure(
    rank=1, host="n2", pid=42, exit_code=-11, step=30, lines=("CUDA error",), time=100.0, job="7"
)
CUT_OFF = BROKEN.model_copy(
    update={"rank": 0, "host": "n1", "exit_code": 1, "lines": ("Connection closed by peer [::1]",)}
)


def ended(code: int, **facts: object) -> Ending:
    return replace(DONE, code=code, **facts)


def like(failure: Failure, **facts: object) -> Failure:
    return failure.model_copy(update=facts)


@pytest.mark.parametrize(
    ("ending", "requeue"),
    [
        (DONE, False),
        (ended(75), True),
        (ended(75, state="COMPLETING"), False),
        (ended(75, state="CANCELLED"), False),
        (ended(75, restarts=1), True),
        (ended(75, restarts=2), False),
        (ended(75, follows=True), False),
        (ended(75, told_to_stop=True), False),
        (ended(75, state=""), True),
        (ended(2), False),
        (ended(138, warned=True), True),
        (ended(138, warned=True, follows=True), False),
    ],
)
def test_without_a_failure(ending: Ending, requeue: bool) -> None:
    assert judge(ending, [], LIMITS).requeue is requeue


def test_a_failure_excludes_the_node_of_the_process_that_failed_first() -> None:
    verdict = judge(ended(1), [CUT_OFF, BROKEN], LIMITS)
    assert verdict.requeue and verdict.without == "n2"
    assert judge(ended(1), [BROKEN], replace(LIMITS, excludes=False)).without == ""


def test_where_all_lost_their_connection_the_silent_node_is_suspect() -> None:
    assert suspects(ended(137), [CUT_OFF]) == ["n2"]
    assert suspects(ended(1), [CUT_OFF, like(CUT_OFF, host="n2", rank=1)]) == []
    hung = like(CUT_OFF, exit_code=-14, lines=())
    assert suspects(ended(1), [hung]) == ["n2"]
    assert suspects(ended(1), [hung, BROKEN]) == ["n2"]


def test_failures_at_different_steps_are_counted() -> None:
    again = like(BROKEN, start=1, step=60)
    last = like(BROKEN, start=2, step=90)
    assert judge(ended(1, restarts=1), [BROKEN, again], LIMITS).requeue
    verdict = judge(ended(1, restarts=2), [BROKEN, again, last], LIMITS)
    assert not verdict.requeue and "it failed 3 times" in verdict.say


def test_two_failures_after_the_same_step_are_one_too_many() -> None:
    again = like(BROKEN, start=1, host="n1")
    verdict = judge(ended(1, restarts=1), [BROKEN, again], LIMITS)
    assert not verdict.requeue and "twice in a row after step 30" in verdict.say


def test_failures_are_no_interruptions() -> None:
    failed = [BROKEN, like(BROKEN, start=1, step=60)]
    assert judge(ended(75, restarts=3), failed, LIMITS).requeue
    assert not judge(ended(75, restarts=4), failed, LIMITS).requeue


def test_a_process_that_a_signal_ended_is_blamed_before_errors_and_these_before_their_echoes() -> (
    None
):
    error = like(BROKEN, exit_code=1, rank=2, lines=("ValueError: no",), time=98.0)
    assert culprit([CUT_OFF, error]) is error
    assert culprit([error, BROKEN]) is BROKEN
    assert culprit([CUT_OFF]) is CUT_OFF


def test_an_ending_that_no_node_has_told_of_counts_as_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(like(BROKEN, job="6"), tmp_path)  # another job of the same run
    words = ["--state", "RUNNING", "--max-requeues", "9", "--max-failures", "9", "--without", "n9"]
    assert main([str(tmp_path), "--job", "7", "--code", "137", *words]) == 0
    said = capsys.readouterr()
    assert said.out == "requeue\n"
    assert "exit code 137 and no node said why" in said.err
    assert [(one.rank, one.job) for one in kept(tmp_path)] == [(1, "6"), (NOBODY, "7")]


def test_a_mistake_that_one_node_tells_of_is_one_whatever_the_others_end_with() -> None:
    mistake = like(CUT_OFF, exit_code=2, lines=("error: data.path=shards: nothing there",))
    verdict = judge(ended(137), [mistake], LIMITS)
    assert not verdict.requeue and "mend the mistake" in verdict.say


def test_an_array_ends_unless_its_task_was_interrupted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--job", "7", "--state", "RUNNING", "--max-requeues", "9", "--max-failures", "0"]
    for code, says in ((0, "end all"), (1, "end all"), (2, "end all"), (75, "end")):
        main([str(tmp_path), *words, "--code", str(code), "--tasks-left", "2"])
        assert capsys.readouterr().out == f"{says}\n"
    (tmp_path / "STOP").touch()
    main([str(tmp_path), *words, "--code", "75", "--tasks-left", "2"])
    assert capsys.readouterr().out == "end all\n"
    assert not (tmp_path / "STOP").exists()


def test_what_is_no_record_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "failures.jsonl").write_text('null\n5\n{"rank": 1}\n{"rank": 1, "lines": []}\n{"ra')
    (tmp_path / "log.jsonl").write_text('{"step": 4, "loss": 1.5}\nnull\n{"step": "x"}\n{"st')
    assert kept(tmp_path) == []
    keep(BROKEN, tmp_path)
    assert kept(tmp_path) == [BROKEN]


def test_nodes_excluded_before_stay_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(BROKEN, tmp_path)
    limits = ["--max-requeues", "9", "--max-failures", "9", "--exclude-failed"]
    main([str(tmp_path), "--job", "7", "--code", "1", "--state", "RUNNING", *limits])
    assert capsys.readouterr().out == "requeue n2\n"
    more = ["--without", "n[5-6]"]
    main([str(tmp_path), "--job", "7", "--code", "1", "--state", "RUNNING", *limits, *more])
    said = capsys.readouterr()
    assert said.out == "requeue n[5-6],n2\n"
    assert "after step 30: rank 1 on n2 (pid 42) was ended by SIGSEGV" in said.err
    assert "    CUDA error" in said.err
