"""A server's index, copied to this machine's disk to be memory-mapped."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import xxhash

from shards.atomic import replacing
from shards.errors import UserError
from shards.index import FILE_NAME
from shards.stores.remote import RemoteFolder, require_protocol
from shards.stores.retry import Patience, persist
from shards.stores.shelf import folder_of
from shards.stores.store import CacheConfig, ReadFailure

KEPT_SECONDS = 7 * 24 * 3600


def fetch_index(location: str, cache: CacheConfig) -> Path:
    """A folder with a copy of the index at a URL.

    A copy is made once for each version that the server tells apart and for all processes of this
    machine, in ``cache.folder`` whatever the room for shards is. UserError where there is none.
    """
    require_protocol(location)
    remote, patience = RemoteFolder(location), Patience(cache.retries, cache.backoff_seconds)
    version = persist(lambda names, _: [remote.version(n) for n in names], [FILE_NAME], patience)[0]
    if isinstance(version, ReadFailure):
        raise _no_index(location, version)
    shelf = folder_of(cache.folder.expanduser(), location)
    folder = shelf / f"index-{xxhash.xxh3_64_hexdigest(repr(sorted(version.items())).encode())}"
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if not (version and (folder / FILE_NAME).exists()):
            _copy(remote, folder, patience)
        os.utime(folder)
    _forget_old(shelf, folder)
    return folder


def _copy(remote: RemoteFolder, folder: Path, patience: Patience) -> None:
    with replacing(folder / FILE_NAME) as aside:
        copies = persist(
            lambda all_, _: [remote.copy(n, aside) for n in all_], [FILE_NAME], patience
        )
        if (failure := copies[0]) is not None:
            aside.unlink(missing_ok=True)
            raise _no_index(remote.location, failure)


def _no_index(location: str, failure: ReadFailure) -> UserError:
    return UserError(
        f"data.path={location}: the index cannot be had ({failure.reason}); "
        "name a URL below which 'segue shards pack' has put shards"
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process is in a block with this folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _forget_old(shelf: Path, current: Path) -> None:
    for folder in shelf.glob("index-*"):
        with suppress(FileNotFoundError):  # another process forgets as well
            if folder != current and time.time() - folder.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
