"""What a run shows: on a terminal, in a file, and where it ends."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from codecs import getincrementaldecoder
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from screen import Screen

from launch.accelerate import search_path
from launch.summary import Ended, show
from pretrain.metrics.progress import Progress, clock
from pretrain.stop import INTERRUPTED

CONFIG = Path(__file__).parents[2] / "configs/quickstart.yaml"
SIZES = (
    *("model.hidden_dim=32", "model.head=2", "model.n_layer=2"),
    *("batch.seconds=48", "batch.micro_seconds=12", "batch.buckets=4"),
)
WIDTH = 110
PATIENCE = 180.0


class OnTerminal:
    """``segue`` on a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.screen, self._held = Screen(WIDTH), ""
        self._letters = getincrementaldecoder("utf-8")()
        environment = {**os.environ, "PATH": search_path(), "TERM": "xterm-256color"}
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.execvpe("segue", ["segue", *arguments], environment)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, WIDTH, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def until(self, seen: Callable[[Screen], bool]) -> None:
        """Read on; AssertionError where it ends or takes too long before that is seen."""
        deadline = time.monotonic() + PATIENCE
        while not seen(self.screen):
            assert time.monotonic() < deadline and self._read(), self.screen.text

    def ended(self) -> int:
        """The exit code."""
        while self._read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _read(self) -> bool:
        assert select.select([self._terminal], [], [], PATIENCE)[0], self.screen.text
        try:
            block = os.read(self._terminal, 65536)
        except OSError:  # Linux: nobody has it open any more
            return False
        output = self._held + self._letters.decode(block)
        cut = re.search(r"(\x1b[^a-zA-Z]*)?$", output)  # a sequence that has not come to its end
        assert cut
        self._held = output[cut.start() :]
        self.screen.write(output[: cut.start()])
        return bool(block)


def test_a_terminal_shows_how_far_a_run_is_and_after_ctrl_c_only_what_came_of_it(
    token_shards: Path, tmp_path: Path
) -> None:
    run = [f"data.path={token_shards}", f"run.dir={tmp_path}", "run.name=shown", *SIZES]
    target = ["train.steps=40000", "checkpoint.every=40000"]
    segue = OnTerminal("launch", str(CONFIG), *run, *target)
    known = r"step (\d+)/40000 .* ETA (\d+ d )?\d+:\d\d:\d\d\nloss \d\.\d+ .* checkpoint in \d"
    segue.until(lambda screen: re.search(known, screen.text) is not None)
    assert not segue.screen.shows_cursor
    assert "tokens/s" in segue.screen.text and "x real time" in segue.screen.text
    segue.press(b"\x03")
    assert segue.ended() == INTERRUPTED, segue.screen.text

    left = segue.screen.text
    assert segue.screen.shows_cursor
    assert "ETA" not in left and "checkpoint in" not in left and "grad norm" not in left
    new, asked, stopped = (
        left.index(words) for words in ("new run shown", "asked to stop: ", "summary of run shown")
    )
    assert new < asked < stopped
    steps = len((tmp_path / "shown/log.jsonl").read_text().splitlines())
    assert re.search(rf"│ outcome +│ stopped by a signal at step {steps} of 40000", left[stopped:])
    assert re.search(rf"│ steps +│ {steps:,}, {steps:,} of them in this start", left[stopped:])
    assert "resume:   segue launch" in left[stopped:]


def step(number: int, *, time: float, loss: float | None) -> str:
    facts = {"step": number, "target": 8, "epoch": number / 4, "time": time, "loss": loss}
    return json.dumps({**facts, "seconds": 2.0, "audio_seconds": 90.0, "failed_clips": 1})


@pytest.mark.parametrize(
    ("code", "steps", "outcome", "after"),
    [
        (0, 8, "at its target, step 8", "further:  segue launch run.yaml train.steps=16"),
        (0, 6, "stopped at step 6 of 8", "resume:   segue launch run.yaml"),
        (75, 6, "stopped by a signal at step 6 of 8", "resume:   segue launch run.yaml"),
        (2, 6, "ended at step 6 of 8 on the mistake above", "resume:   segue launch run.yaml"),
        (1, 6, "failed after step 6 of 8, exit code 1", "resume:   segue launch run.yaml"),
    ],
)
def test_the_end_is_plain_lines_in_a_file(
    code: int, steps: int, outcome: str, after: str, tmp_path: Path
) -> None:
    run, said = tmp_path / "run", StringIO()
    run.mkdir()
    logged = [step(n, time=100 + n, loss=None if n == 1 else 9.0 - n) for n in range(1, steps + 1)]
    (run / "log.jsonl").write_text("\n".join([*logged, '{"step": 9, "lo']))
    (run / "validation.jsonl").write_text(
        "".join(
            json.dumps({"step": at, "set": of, "group": "all", "loss": loss}) + "\n"
            for at, of, loss in ((2, "validation", 4.5), (4, "validation", 4.25), (4, "old", 1.0))
        )
    )
    command = ["segue", "launch", "run.yaml"]
    command += ["train.steps=8"] if steps == 8 else []
    show(Ended(run, 104.5, code, command, ["train.steps=16"]), Console(file=said, width=40))
    lines = said.getvalue().splitlines()
    assert lines[:2] == ["summary of run run", f"  outcome: {outcome}"] and lines[-1] == after
    assert f"  steps: {steps}, {steps - 4} of them in this start" in lines
    assert "  best validation: loss 4.2500 at step 4" in lines
    assert f"  time in steps: 0:00:{2 * steps}, 0:00:{2 * (steps - 4):02d} in this start" in lines
    assert f"  audio: {90 * steps / 3600:.2f} h, 45 x real time" in lines
    assert f"  clips left out: {steps} (data_errors.jsonl)" in lines
    assert "  checkpoint: none yet" in lines


def test_a_run_without_a_step_has_no_summary(tmp_path: Path) -> None:
    said = StringIO()
    show(Ended(tmp_path, 0.0, 2), Console(file=said))
    assert said.getvalue() == ""


def test_only_a_whole_line_of_progress_is_drawn() -> None:
    progress = Progress(3, 9, 0.5, None, 1e-3, 100.0, "clips", 20.0, left=4.0)
    line = progress.marked()
    assert Progress.parsed(line) == progress and "\n" not in line
    assert Progress.parsed(line[:-9]) is None and Progress.parsed("step 3/9") is None


def test_a_long_time_is_in_days() -> None:
    assert [clock(seconds) for seconds in (None, 59.6, 3725, 2 * 86400 + 61)] == [
        "-:--:--",
        "0:01:00",
        "1:02:05",
        "2 d 0:01:01",
    ]


NOISE = """
import logging, sys, warnings
from pretrain.chatter import keep_out, silence_stdout
keep_out()
silence_stdout()
warnings.simplefilter("always")
warnings.warn("a warning")
chatty = logging.getLogger("chatty")
chatty.setLevel(logging.DEBUG)
chatty.warning("a word")
chatty.error("an error")
print("a line", flush=True)
"""


@pytest.mark.parametrize("verbose", ["", "1"])
def test_only_errors_come_through_unless_it_is_verbose(verbose: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", NOISE],
        env={**os.environ, "SEGUE_VERBOSE": verbose},
        capture_output=True,
        text=True,
        check=True,
    )
    heard = [words in result.stdout + result.stderr for words in ("a warning", "a word", "a line")]
    assert heard == [bool(verbose)] * 3
    assert "an error" in result.stderr
