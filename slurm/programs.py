"""SLURM's programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from shards.errors import UserError


class RefusedError(UserError):
    """A program of SLURM has said no, or is not there: nothing was done."""


def answer(program: str, *arguments: str | Path) -> str:
    """What a program of SLURM prints; its remarks go on to stderr.

    RefusedError where it is not installed or ends with an exit code, with its reason; UserError
    where a signal ended it, so that nobody knows what it has done.
    """
    # The user's own choice of rows and of the notation of times is for their eyes.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}
    environ["SLURM_TIME_FORMAT"] = "standard"
    try:
        done = subprocess.run(
            [program, *arguments],
            check=False,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=environ,
        )
    except FileNotFoundError as error:
        raise RefusedError(
            f"{program} is not on PATH; run this on a login node of a SLURM cluster"
        ) from error
    if done.returncode < 0:
        raise UserError(f"{program} was ended by signal {-done.returncode}")
    if done.returncode != 0:
        raise RefusedError(f"{program} refused: {_reason(program, done.stderr)}")
    sys.stderr.write(done.stderr)
    return done.stdout


def _reason(program: str, said: str) -> str:
    lines = [line.removeprefix(f"{program}: ").strip() for line in said.splitlines()]
    words = [line.removeprefix("error: ").removeprefix("fatal: ") for line in lines if line]
    return "; ".join(words) or "it gave no reason"
