"""Submitting from a folder that holds what the jobs run, whatever is edited later."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from shards.settings import write_resolved
from slurm.programs import RefusedError
from slurm.script import CODE, CONFIG
from slurm.snapshot import copy_code

_Jobs = TypeVar("_Jobs")


def submit_from(
    folder: Path, scripts: Mapping[str, str], config: BaseModel, submit: Callable[[Path], _Jobs]
) -> _Jobs:
    """Write scripts, config and code into the new ``folder`` and ``submit`` from there.

    Where they cannot be written or SLURM has refused, all that is new goes again, the folders above
    included. After anything else, such as Ctrl-C, it stays: a job may be queued.
    """
    parents = [parent for parent in folder.parents if not parent.exists()]
    folder.mkdir(parents=True)
    try:
        _write(folder, scripts, config)
    except BaseException:
        _remove(folder, parents)
        raise
    try:
        return submit(folder)
    except RefusedError:
        _remove(folder, parents)
        raise


def _write(folder: Path, scripts: Mapping[str, str], config: BaseModel) -> None:
    for name, text in scripts.items():
        (folder / name).write_text(text, encoding="utf-8")
    write_resolved(config, folder / CONFIG)
    copy_code(folder / CODE)


def _remove(folder: Path, parents: Sequence[Path]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for parent in parents:
        with suppress(OSError):  # somebody else has begun to use it
            parent.rmdir()
