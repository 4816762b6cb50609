"""Shards that several jobs have made into one dataset."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from shards.errors import UserError
from shards.pack.finish import PackReport, finish
from shards.pack.recipe import WORK_FOLDER
from shards.pack.state import SETTINGS, State

CODEBOOKS = "*.npz"
_MADE = (CODEBOOKS, "*.tar", f"{WORK_FOLDER}/block-*.arrow", f"{WORK_FOLDER}/block-*.json")
"""What is moved, in this order: a receipt comes after what it vouches for."""


def merge(out: Path, folders: Sequence[Path] = ()) -> PackReport:
    """Write the index over all parts in ``out``, after moving those of other ``folders`` there.

    The same dataset as one job's. UserError where parts were packed with other settings or
    codebooks, and then nothing has been moved; and where parts are missing.
    """
    states = [(folder, State.read(folder)) for folder in folders]
    if states and not (out / SETTINGS).is_file():
        (out / WORK_FOLDER).mkdir(parents=True, exist_ok=True)
        states[0][1].keep(out)
    ours = State.read(out)
    for folder, theirs in states:
        if folder.resolve() == out.resolve():
            raise UserError(f"{folder}: it is OUT itself; name the folders of the other parts")
        theirs.refuse_other(ours, out)
    _refuse_other_codebooks([out, *folders])
    for folder in folders:
        for pattern in _MADE:
            for path in sorted(folder.glob(pattern)):
                shutil.move(path, out / path.relative_to(folder))
    return finish(out)


def _refuse_other_codebooks(folders: Sequence[Path]) -> None:
    first: dict[str, Path] = {}
    for path in (path for folder in folders for path in sorted(folder.glob(CODEBOOKS))):
        other = first.setdefault(path.name, path)
        if other.read_bytes() != path.read_bytes():
            raise UserError(
                f"{path}: it is another codebook than {other}, and its tokens mean something else; "
                "copy one into both folders before they are packed, and pack one of them again"
            )
