from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pretrain.lock import hold, is_stale
from shards.errors import UserError


def test_a_second_run_in_the_same_folder_is_refused_with_the_firsts_process(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(UserError, match=f"in use by process {os.getpid()} on "):
        hold(tmp_path)
    hold(tmp_path).close()


def test_a_lock_that_is_let_go_in_time_is_waited_for_and_that_is_said_once(tmp_path: Path) -> None:
    first, said = hold(tmp_path), list[str]()

    def let_go(line: str) -> None:
        said.append(line)
        first.close()

    hold(tmp_path, patience=60, say=let_go).close()
    assert len(said) == 1 and f"60 s for process {os.getpid()} on {os.uname().nodename}" in said[0]


def test_patience_ends_in_the_refusal(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(UserError, match="in use by process"):
        hold(tmp_path, patience=0.1)


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    script = f"from pretrain.lock import hold; import os; f = hold({str(tmp_path)!r}); os._exit(9)"
    subprocess.run([sys.executable, "-c", script], check=False)
    hold(tmp_path).close()


def test_a_lock_that_names_a_process_of_this_machine_that_is_gone_is_stale() -> None:
    here = os.uname().nodename
    child = subprocess.Popen(["true"])
    child.wait()
    assert is_stale(f"{child.pid} on {here}")
    assert is_stale("")
    assert not is_stale(f"{os.getpid()} on {here}")
    assert not is_stale(f"{child.pid} on another-machine")
