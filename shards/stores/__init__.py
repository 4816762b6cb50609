"""Where shard bytes come from: a folder, a server, or copies of a server's shards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shards.index import ShardFacts
from shards.stores.local import LocalStore
from shards.stores.retry import Patience
from shards.stores.store import CacheConfig, ReadFailure, Span, Store

__all__ = [
    "CacheConfig",
    "ReadFailure",
    "ShardFacts",
    "Span",
    "Store",
    "is_url",
    "open_store",
]


def is_url(location: str) -> bool:
    """Whether a location is for fsspec to read: anything with a protocol."""
    return "://" in location


def open_store(location: str, facts: Mapping[str, ShardFacts], config: CacheConfig) -> Store:
    """The store of the shards at ``location``, a folder or a URL that fsspec reads.

    With room in the cache shards are copied there first, those of a folder as well: it may be
    on a slow mount. UserError for a protocol that is unknown or whose package is not installed,
    OSError where the cache's folder cannot be made. Connects to nothing yet.
    """
    patience = Patience(config.retries, config.backoff_seconds)
    origin = _origin(location, patience)
    if not config.gigabytes:
        return origin
    from shards.stores.cache import CachedStore
    from shards.stores.remote import RemoteFolder, require_protocol

    require_protocol(location)
    root, limit = config.folder.expanduser(), int(config.gigabytes * 10**9)
    return CachedStore(RemoteFolder(location), origin, facts, patience, root, limit)


def _origin(location: str, patience: Patience) -> Store:
    if not is_url(location):
        return LocalStore(Path(location), patience)
    from shards.stores.ranges import RangeStore
    from shards.stores.remote import RemoteFolder, require_protocol

    require_protocol(location)
    return RangeStore(RemoteFolder(location), patience)
