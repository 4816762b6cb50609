from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from pretrain.watch import new_folder

SCRIPT = """
import ctypes, sys, time
from pathlib import Path
from pretrain.watch import Watch

def stuck(seconds):
    ctypes.PyDLL(None).sleep(seconds)  # in C, and the interpreter's lock is held

folder = Path(sys.argv[1], "hang", "start")
with Watch(folder, 3, start_seconds={start}, hang_seconds={hang}) as watch:
"""


def ended(folder: Path, body: str, *, start: float = 60, hang: float = 60) -> int:
    """The exit code of a process that does what ``body`` says under a watch."""
    script = SCRIPT.format(start=start, hang=hang) + f"    {body}\n"
    done = subprocess.run(
        [sys.executable, "-c", script, folder], stderr=subprocess.DEVNULL, check=False
    )
    return done.returncode


def told(folder: Path) -> str:
    return (folder / "hang" / "start" / "rank_00003.txt").read_text()


def test_a_process_stuck_in_c_with_the_interpreters_lock_is_dumped_and_ended(
    tmp_path: Path,
) -> None:
    assert ended(tmp_path, "watch.stepped(); stuck(60)", hang=0.3) == -signal.SIGALRM
    assert told(tmp_path).startswith("rank 3, process ") and "in stuck" in told(tmp_path)


def test_the_start_has_a_limit_of_its_own_and_so_has_what_may_take_long(tmp_path: Path) -> None:
    patient = "watch.stepped()\n    with watch.patient(): stuck(1)"
    assert ended(tmp_path, "watch.alive(); stuck(1)", hang=0.1) == 0
    assert ended(tmp_path, patient, hang=0.1) == 0
    assert ended(tmp_path, f"{patient}\n    stuck(60)", hang=0.3) == -signal.SIGALRM
    assert "patient" not in told(tmp_path)


def test_signs_of_life_put_the_end_off(tmp_path: Path) -> None:
    body = "watch.stepped()\n    for _ in range(30): time.sleep(0.1); watch.alive()"
    assert ended(tmp_path, body, hang=1) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_leaves_no_file_and_an_error_after_a_dump_does(tmp_path: Path) -> None:
    assert ended(tmp_path, "sys.exit(2)") == 2
    assert list(tmp_path.iterdir()) == []
    assert ended(tmp_path, "stuck(1); raise ConnectionError", start=0.6) == 1
    assert "in stuck" in told(tmp_path)
    assert ended(tmp_path, "stuck(1)", start=0.6) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_new_start_keeps_the_stacks_of_those_before_and_nothing_else(tmp_path: Path) -> None:
    assert ended(tmp_path, "stuck(60)", start=0.3) == -signal.SIGALRM
    killed = tmp_path / "hang" / "killed" / "rank_00000.txt"
    killed.parent.mkdir()
    killed.write_text("rank 0, process 7 on here\n")
    folder = new_folder(tmp_path)
    assert folder.parent == tmp_path / "hang" and not folder.exists()
    assert not killed.parent.exists() and "in stuck" in told(tmp_path)
