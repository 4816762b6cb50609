"""The store of a place that a user names: a folder or a URL."""

from __future__ import annotations

from pathlib import Path

from pretrain.checkpoint.remote import RemoteStore
from pretrain.checkpoint.store import LocalStore, Store
from shards.errors import UserError
from shards.stores.remote import require_protocol


def store_at(place: str, scratch: Path) -> Store:
    """The checkpoints in a folder, or below a URL that fsspec knows.

    Files on their way to a server lie in ``scratch``. UserError for an unknown protocol.
    """
    if "://" not in place:
        return LocalStore(Path(place))
    try:
        require_protocol(place)
    except UserError as error:
        raise UserError(str(error).replace("data.path", "checkpoint.dir")) from error
    return RemoteStore(place, scratch)
