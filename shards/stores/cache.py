"""Whole shards copied to this machine's disk, and read there."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shards.checksum import measured
from shards.index import ShardFacts
from shards.stores.local import LocalStore
from shards.stores.remote import RemoteFolder
from shards.stores.retry import Patience, persist
from shards.stores.shelf import Shelf
from shards.stores.store import ReadFailure, Span, Store

THREADS = 2
POLL_SECONDS = 0.05
STALLED_SECONDS = 120.0  # longer than a server may be silent and than any wait between tries
TOUCH_SECONDS = 60.0
RELEASE_SECONDS = 5.0
REFUSED_SECONDS = 600.0


@dataclass(frozen=True)
class Damage(ReadFailure):
    """A shard came whole, with other bytes than those indexed."""


class CachedStore:
    """Copies shards when they are first wanted and reads the copies.

    Shards that the index has no facts of, that are larger than the room, or that find no room or
    a stalled writer, are read from ``origin`` instead.
    """

    def __init__(
        self,
        remote: RemoteFolder,
        origin: Store,
        facts: Mapping[str, ShardFacts],
        patience: Patience,
        root: Path,
        limit: int,
    ) -> None:
        self.remote, self.origin, self.facts = remote, origin, dict(facts)
        self.patience, self.root, self.limit = patience, root, limit
        self._shelf = Shelf(root, remote.location, facts)
        self._local = LocalStore(self._shelf.folder, patience, self._shelf.names)
        self._ahead = ReadAhead(self._bring)
        self._damaged: dict[str, tuple[Damage, float]] = {}
        self._touched: dict[str, float] = {}
        self._released = 0.0

    def __reduce__(self) -> tuple[type[CachedStore], tuple[object, ...]]:
        made_of = (self.remote, self.origin, self.facts, self.patience, self.root, self.limit)
        return CachedStore, made_of

    def fetch(self, spans: Sequence[Span]) -> list[bytes | ReadFailure]:
        self._release()
        members: dict[str, list[int]] = {}
        for n, (shard, _, _) in enumerate(spans):
            members.setdefault(shard, []).append(n)
        if len(members) > 1:
            self.expect(shard for shard in members if not self._local.holds(shard))
        found: dict[int, bytes | ReadFailure | None] = {}
        for shard, places in members.items():
            copied = self._from_copy(shard, [spans[n] for n in places])
            found.update(zip(places, copied, strict=True))
        return self._completed(spans, found)

    def expect(self, shards: Iterable[str]) -> None:
        """Copy them in the background, as many as half the room takes and are not there yet."""
        room = self.limit // 2
        wanted: list[ShardFacts] = []
        for about in (self.facts[shard] for shard in shards if self._keeps(shard)):
            room -= about.bytes
            if room < 0:
                break
            if self._shelf.has(about):
                self._touch(about.name)
            else:
                wanted.append(about)
        self._ahead.want(wanted)

    def _keeps(self, shard: str) -> bool:
        about = self.facts.get(shard)
        return about is not None and about.bytes <= self.limit

    def _from_copy(self, shard: str, spans: Sequence[Span]) -> list[bytes | ReadFailure | None]:
        """What the copy of the shard gives; None where the origin is to be asked."""
        nothing: list[bytes | ReadFailure | None] = [None] * len(spans)
        if not self._keeps(shard):
            return nothing
        if not self._local.holds(shard):
            state = self._bring(self.facts[shard])
            if isinstance(state, ReadFailure):
                return [state] * len(spans)
            if not state:
                return nothing
            self._local.release_deleted()
        self._touch(shard)
        # Another process may have deleted the copy before it was opened, or the disk may be bad.
        return [None if isinstance(x, ReadFailure) else x for x in self._local.fetch(spans)]

    def _completed(
        self, spans: Sequence[Span], found: Mapping[int, bytes | ReadFailure | None]
    ) -> list[bytes | ReadFailure]:
        missing = [n for n in range(len(spans)) if found[n] is None]
        fetched = self.origin.fetch([spans[n] for n in missing]) if missing else []
        rest = iter(fetched)
        return [next(rest) if (x := found[n]) is None else x for n in range(len(spans))]

    def _bring(self, about: ShardFacts) -> bool | ReadFailure:
        """Have the shard copied, by whomever; False where it must be read from the origin."""
        while not self._shelf.has(about):
            if failure := self._known_damage(about.name):
                return failure
            with self._shelf.claim(about) as ours:
                if ours and not self._shelf.has(about):
                    return self._copy(about)
            if not ours:
                if self._shelf.idle_seconds(about) > STALLED_SECONDS:
                    return False
                time.sleep(POLL_SECONDS)
        return True

    def _copy(self, about: ShardFacts) -> bool | ReadFailure:
        if not self._shelf.make_room(self.limit):
            return False
        answer = persist(lambda all_of_it, _: [self._try(all_of_it[0])], [about], self.patience)[0]
        if answer is True:
            os.replace(self._shelf.part(about), self._shelf.path(about))
        if isinstance(answer, Damage):
            self._damaged[about.name] = (answer, time.monotonic())
        return answer

    def _try(self, about: ShardFacts) -> bool | ReadFailure:
        part = self._shelf.part(about)
        return self.remote.copy(about.name, part) or self._verify(about, part)

    def _verify(self, about: ShardFacts, part: Path) -> bool | ReadFailure:
        size, checksum = measured(part)
        if (size, checksum) == (about.bytes, about.checksum):
            return True
        found = f"{size} bytes with checksum {checksum:016x}"
        listed = f"{about.bytes} with {about.checksum:016x}"
        reason = f"{self.remote.location}/{about.name} came as {found}, {listed} were indexed"
        return Damage(about.name, reason, passing=True)

    def _known_damage(self, shard: str) -> Damage | None:
        """What came wrong at every try and is not to be fetched for every clip of it again."""
        failure, since = self._damaged.get(shard, (None, 0.0))
        return failure if time.monotonic() - since < REFUSED_SECONDS else None

    def _touch(self, shard: str) -> None:
        now = time.monotonic()
        if now - self._touched.get(shard, -TOUCH_SECONDS) >= TOUCH_SECONDS:
            self._touched[shard] = now
            self._shelf.touch(self.facts[shard])

    def _release(self) -> None:
        now = time.monotonic()
        if now - self._released >= RELEASE_SECONDS:
            self._released = now
            self._local.release_deleted()


class ReadAhead:
    """Calls ``bring`` for what is wanted, in two threads that end when nothing is left.

    They belong to the process that wanted something: a child after a fork starts its own.
    """

    def __init__(self, bring: Callable[[ShardFacts], object]) -> None:
        self._bring = bring
        self._start_over()

    def want(self, shards: Iterable[ShardFacts]) -> None:
        """Queue what is neither queued nor under way."""
        if self._process != os.getpid():
            self._start_over()
        with self._lock:
            new = [about for about in shards if about.name not in self._wanted]
            self._wanted.update(about.name for about in new)
            self._queue += new
            starting = min(THREADS - self._running, len(self._queue))
            self._running += starting
        for _ in range(starting):
            threading.Thread(target=self._work, name="segue-read-ahead", daemon=True).start()

    def _start_over(self) -> None:
        self._process, self._running = os.getpid(), 0
        self._queue: deque[ShardFacts] = deque()
        self._wanted: set[str] = set()  # queued or under way
        self._lock = threading.Lock()

    def _work(self) -> None:
        while (about := self._next()) is not None:
            # A failure is met again, and told, by whoever fetches from the shard.
            with suppress(OSError):
                self._bring(about)
            self._wanted.discard(about.name)

    def _next(self) -> ShardFacts | None:
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            self._running -= 1
            return None
