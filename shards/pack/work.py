"""The folder of unfinished work, which several jobs may share."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.atomic import aside_of, sweep
from shards.errors import UserError
from shards.pack.recipe import WORK_FOLDER


def open_work(out: Path) -> Path:
    """``out``'s folder for unfinished work, rid of what killed jobs of this machine left.

    UserError where it cannot be made.
    """
    work = out / WORK_FOLDER
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"OUT: {out} cannot be made ({error.strerror}); name a folder") from error
    for folder in (out, work):
        sweep(folder)
    return work


@contextmanager
def hold(work: Path, job: str) -> Iterator[None]:
    """Nobody else does ``job`` meanwhile; UserError if somebody is at it."""
    path = work / f"job-{job}.lock"
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"OUT: another process is packing into {work.parent}; wait for it, or give the "
                "jobs parts of their own with --part"
            ) from error
        yield


@contextmanager
def listing_aside(work: Path) -> Iterator[Path]:
    """A folder to list into, gone when the block ends unless `keep_listing` has moved it."""
    aside = aside_of(work / "listing")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def keep_listing(aside: Path, fingerprint: str) -> Path:
    """Where the listing is from now on; jobs that have listed the same share one."""
    kept = aside.with_name(f"listing-{fingerprint}")
    try:
        os.rename(aside, kept)
    except OSError:
        if not kept.is_dir():
            raise
    return kept


def forget_work(out: Path) -> None:
    """Remove everything but receipts; all blocks are there."""
    work = out / WORK_FOLDER
    for listing in work.glob("listing-*"):
        shutil.rmtree(listing, ignore_errors=True)
    for left in (
        *work.glob("chunk-*"),
        *work.glob("job-*.lock"),
        *work.glob(".*.*"),
        *out.glob(".shard-*"),
    ):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
