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
