from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pretrain.stop import Asked

SCRIPT = """
import os, signal, sys
from pathlib import Path
from pretrain.stop import Asked, StopRequest

folder = Path(sys.argv[1])
first, other = StopRequest(folder, watches=True), StopRequest(folder, watches=False)
assert not any(first.asked())
os.kill(os.getpid(), signal.SIGUSR1)
assert other.asked().interrupts and other.asked().to_stop
(folder / "STOP").touch()
(folder / "SAVE").touch()
print(other.asked().to_save, *first.asked())
first.saved(first.asked())
print(first.asked().to_save, first.asked().to_stop)
before, now = Asked(by_signal=True), first.asked()
first.answered(before)
print(*(path.name for path in folder.iterdir()))
first.answered(now)
print(*(path.name for path in folder.iterdir()))
assert "torch" not in sys.modules
"""


def test_one_rank_looks_for_the_files_and_removes_only_what_it_has_answered(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path], capture_output=True, text=True, check=False
    )
    said = ["False False True True", "False True", "STOP", ""]
    assert done.stdout.splitlines() == said, done.stderr


def test_who_stops_a_run_by_a_file_does_not_want_it_started_again() -> None:
    assert Asked(by_signal=True).interrupts
    assert not Asked(by_signal=True, by_file=True).interrupts
    assert Asked(by_signal=True, by_file=True).to_stop
    assert not Asked(to_save=True).to_stop
