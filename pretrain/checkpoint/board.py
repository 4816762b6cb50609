"""Where the threads of different ranks leave each other words."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol


class Board(Protocol):
    """Small values by key, as torch's TCPStore keeps them; `get` waits until one is there.

    For one thread of each rank: while it waits, others of the rank cannot use this board.
    """

    def set_timeout(self, timeout: timedelta, /) -> None: ...
    def set(self, key: str, value: str, /) -> None: ...
    def get(self, key: str, /) -> bytes: ...
    def delete_key(self, key: str, /) -> bool: ...
