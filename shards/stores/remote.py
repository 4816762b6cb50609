"""A folder on a server, through fsspec.

Options of a file system come from where fsspec finds them: ``~/.config/fsspec/*.json`` and
variables such as ``FSSPEC_S3_ANON=true`` or
``FSSPEC_HTTP='{"headers": {"Authorization": "Bearer ..."}}'``. s3:// takes credentials, region and
endpoint as every AWS program does (``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``, ``AWS_ENDPOINT_URL``,
``~/.aws/config``); fsspec's own ``FSSPEC_S3_ENDPOINT_URL`` goes before that.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from shards.errors import UserError
from shards.stores.store import ReadFailure, Span

CHUNK_BYTES = 8 * 1024**2

_PACKAGES = {
    "abfs": "adlfs",
    "az": "adlfs",
    "gcs": "gcsfs",
    "gs": "gcsfs",
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "s3a": "s3fs",
}
_VERSION = {"etag", "generation", "last-modified", "last_modified", "lastmodified", "mtime"}
_DISK_FULL = {errno.EDQUOT, errno.ENOSPC, errno.EROFS}
_LASTING = (FileNotFoundError, IsADirectoryError, NotImplementedError, PermissionError)
_LASTING_STATUS = {401, 403, 404, 405, 410}


class WholeFileError(Exception):
    """A server answered a range with the whole file."""

    def __init__(self) -> None:
        super().__init__(
            "the server sends whole files instead of byte ranges; "
            "set data.cache.gigabytes to keep copies of them"
        )


def require_protocol(location: str) -> None:
    """Import what reads the location; UserError where it is unknown or not installed.

    Done when a store is opened: a fork in the middle of another thread's import is a deadlock.
    """
    from fsspec import get_filesystem_class

    protocol = location.partition("::")[0].partition("://")[0] if "://" in location else "file"
    try:
        get_filesystem_class(protocol)
    except ValueError as error:
        raise UserError(
            f"data.path={location}: fsspec knows no protocol {protocol}://; write a folder or a "
            "URL with s3://, gs://, https:// or another that it knows"
        ) from error
    except ImportError as error:
        package = _PACKAGES.get(protocol, f"what it needs ({error})")
        raise UserError(
            f"data.path={location}: {protocol}:// cannot be read here "
            f"({error.__cause__ or error}); pip install {package}"
        ) from error


class RemoteFolder:
    """The files under a URL. Every process opens its own connections, at the first use."""

    def __init__(self, location: str) -> None:
        self.location = location.rstrip("/")

    def ranges(self, ranges: Sequence[Span]) -> list[bytes | Exception]:
        """The bytes of each range, none of them empty, asked for at once."""
        try:
            files, root = self._opened()
        except OSError as error:  # some file systems connect here
            return [error] * len(ranges)
        found: list[bytes | Exception] = files.cat_ranges(
            [f"{root}/{name}" for name, _, _ in ranges],
            [start for _, start, _ in ranges],
            [start + size for _, start, size in ranges],
            on_error="return",
        )
        return found

    def copy(self, name: str, target: Path) -> ReadFailure | None:
        """Stream a whole file into ``target``; OSError where the disk is full."""
        try:
            files, root = self._opened()
            files.get_file(f"{root}/{name}", str(target))
        except Exception as error:  # each file system raises its own kinds
            if isinstance(error, OSError) and error.errno in _DISK_FULL:
                raise OSError(error.errno, error.strerror, str(target)) from error
            return self.failure(name, error)
        return None

    def version(self, name: str) -> dict[str, str] | ReadFailure:
        """What the server says of the file that changes when its bytes do, if it says anything."""
        try:
            files, root = self._opened()
            about = files.info(f"{root}/{name}")
        except Exception as error:
            return self.failure(name, error)
        return {key: str(value) for key, value in about.items() if key.lower() in _VERSION}

    def failure(self, name: str, error: Exception) -> ReadFailure:
        """What went wrong with a file, in a sentence, and whether it may pass."""
        where = f"{self.location}/{name}"
        if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, OSError):
            error = error.__cause__  # fsspec says so of a server that does not answer, too
        if isinstance(error, FileNotFoundError):
            return ReadFailure(name, f"{where} is not there")
        lasting = isinstance(error, (*_LASTING, WholeFileError))
        lasting = lasting or getattr(error, "status", None) in _LASTING_STATUS
        reason = f"{where}: {error}" if str(error) else f"{where}: {type(error).__name__}"
        return ReadFailure(name, reason, passing=not lasting)

    def _opened(self) -> tuple[Any, str]:
        return open_location(self.location)


def open_location(location: str) -> tuple[Any, str]:
    """A file system of this process's own, and the path in it that ``location`` names."""
    with _opening:
        return _open_filesystem(location, os.getpid())


# One thread at a time: fsspec starts its event loop twice if two come first together. And not
# while another thread forks: the child would wait for ever for the locks of asyncio and fsspec.
_opening = threading.RLock()


def _start_anew() -> None:
    """In a forked child: have fsspec start a loop of its own, which old versions do not."""
    _opening.release()
    if "fsspec.asyn" in sys.modules:
        sys.modules["fsspec.asyn"].reset_lock()


os.register_at_fork(
    before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_start_anew
)


# The process is part of the key and nothing is ever dropped: a forked child must neither use its
# parent's connections nor close them, since closing would reach into the parent's event loop.
@cache
def _open_filesystem(location: str, _process: int) -> tuple[Any, str]:
    """A file system of this process alone and the folder's path in it."""
    from fsspec.core import url_to_fs

    protocol = location.partition("://")[0]
    options = _options(protocol) if "::" not in location else {}
    files, root = url_to_fs(location, skip_instance_cache=True, **options)
    return files, root.rstrip("/")


def _options(protocol: str) -> dict[str, Any]:
    """What we set unlike fsspec; the user's own configuration of it goes first."""
    from fsspec.config import conf

    chosen: dict[str, Any] = conf.get(protocol, {})
    if protocol in {"http", "https"}:
        return {"client_kwargs": {**_http_client(), **chosen.get("client_kwargs", {})}}
    if protocol in {"s3", "s3a"}:
        # s3fs holds this product in memory for each copy under way: 500 MB as it comes.
        return {"default_block_size": CHUNK_BYTES, "max_concurrency": 4, **chosen}
    return {}


def _http_client() -> dict[str, Any]:
    from aiohttp import ClientTimeout

    return {
        # Offsets are those of the plain bytes.
        "headers": {"Accept-Encoding": "identity"},
        "raise_for_status": _refuse_whole_files,
        # A whole shard may take longer than aiohttp's five minutes; a silent server may not.
        "timeout": ClientTimeout(total=None, sock_connect=30, sock_read=60),
        "trust_env": True,  # proxies, as other programs take them
    }


async def _refuse_whole_files(response: Any) -> None:
    """Hang up before a server that ignores ranges fills the memory with whole shards."""
    if response.status == 200 and "Range" in response.request_info.headers:
        response.close()
        raise WholeFileError
