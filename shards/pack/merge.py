"""Shards that several jobs have made into one dataset."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from shards.errors import UserError
from shards.pack.finish import PackReport, finish
from shards.pack.recipe import WORK_FOLDER
from shards.pack.state import SETTINGS, State

_MADE = ("*.npz", "*.tar", f"{WORK_FOLDER}/block-*.arrow", f"{WORK_FOLDER}/block-*.json")
"""Codebooks, shards and receipts, in the order they are moved: a kill then loses nothing."""


def merge(out: Path, folders: Sequence[Path] = ()) -> PackReport:
    """Write the index over all parts in ``out``, after moving those of other ``folders`` there.

    The same dataset as one job's. UserError where parts are missing or were packed with other
    settings; then nothing has been moved.
    """
    states = [(folder, State.read(folder)) for folder in folders]
    if not (out / SETTINGS).is_file():
        _begin(out, states)
    ours = State.read(out)
    for folder, theirs in states:
        if folder.resolve() == out.resolve():
            raise UserError(f"{folder}: it is OUT itself; name the folders of the other parts")
        theirs.refuse_other(ours, out)
    for folder in folders:
        _move(folder, out)
    return finish(out)


def _begin(out: Path, states: Sequence[tuple[Path, State]]) -> None:
    if not states:
        State.read(out)
    (out / WORK_FOLDER).mkdir(parents=True, exist_ok=True)
    states[0][1].keep(out)


def _move(folder: Path, out: Path) -> None:
    for pattern in (
        "*.npz",
        "*.tar",
        f"{WORK_FOLDER}/block-*.arrow",
        f"{WORK_FOLDER}/block-*.json",
    ):
        for path in sorted(folder.glob(pattern)):
            shutil.move(path, out / path.relative_to(folder))
