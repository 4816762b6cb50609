"""What a store of shards is: spans of bytes in, bytes or reasons out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import Field

from shards.section import Section

Span = tuple[str, int, int]  # a shard's file name, a byte offset and a size in it


@dataclass(frozen=True)
class ReadFailure:
    """Why bytes of a shard could not be had; ``passing`` where another try may go better."""

    shard: str
    reason: str
    passing: bool = False


class Store(Protocol):
    """Where the bytes of shards come from. One thread of a process uses a store at a time.

    A store can be pickled and used on both sides of a fork.
    """

    def fetch(self, spans: Sequence[Span]) -> list[bytes | ReadFailure]:
        """The bytes of each span, in order.

        What cannot be had after all retries is a failure in its place and takes no other span
        along. OSError only for trouble with this machine's own disk, as when it is full.
        """

    def expect(self, shards: Iterable[str]) -> None:
        """Start to bring near what ``fetch`` will soon be asked for, soonest first."""


class CacheConfig(Section):
    """``data.cache``: copies of shards on this machine's disk, and patience with the source."""

    folder: Path = Field(
        default=Path("~/.cache/segue/shards"), description="copies of shards that processes share"
    )
    gigabytes: float = Field(
        default=0.0, ge=0, description="room for whole shards there; 0 reads only the bytes needed"
    )
    retries: int = Field(default=4, ge=0, description="more tries of a read that failed")
    backoff_seconds: float = Field(
        default=0.5, ge=0, description="wait before the first of them; doubles up to 30 s"
    )
