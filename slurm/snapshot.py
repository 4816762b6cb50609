"""A copy of the code, so that later edits do not change a queued job."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

PACKAGES = ("configs", "launch", "pretrain", "shards", "slurm")
ROOT = Path(__file__).parents[1]
JOBS = "slurm"
"""The folder of a run that holds what was submitted, and what the jobs print."""


def new_folder(run_folder: Path) -> Path:
    """Where the next submission of a run goes; nothing is made yet."""
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}"
    numbers = ("", *(f"-{number}" for number in range(2, 100)))
    folders = (run_folder / JOBS / f"{stamp}{number}" for number in numbers)
    return next(folder for folder in folders if not folder.exists())


def copy_code(folder: Path) -> None:
    """Copy our packages into ``folder``."""
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
