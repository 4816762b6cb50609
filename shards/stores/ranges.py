"""Shards on a server, read by byte ranges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shards.stores.remote import RemoteFolder, WholeFileError
from shards.stores.retry import Patience, persist
from shards.stores.store import ReadFailure, Span

GAP_BYTES = 64 * 1024  # fewer bytes between two spans cost less than a second request
RUN_BYTES = 8 * 1024**2


@dataclass
class _Run:
    """Neighbouring spans that one request fetches, by their positions among those asked for."""

    shard: str
    start: int
    end: int
    members: list[int]

    def takes(self, span: Span) -> bool:
        shard, offset, size = span
        near = offset - self.end <= GAP_BYTES
        return shard == self.shard and near and offset + size - self.start <= RUN_BYTES


def _runs(spans: Sequence[Span]) -> list[_Run]:
    runs: list[_Run] = []
    for n in sorted(range(len(spans)), key=spans.__getitem__):
        shard, offset, size = spans[n]
        if runs and runs[-1].takes(spans[n]):
            runs[-1].end = max(runs[-1].end, offset + size)
            runs[-1].members.append(n)
        else:
            runs.append(_Run(shard, offset, offset + size, [n]))
    return runs


class RangeStore:
    """Asks a server for byte ranges, all at once and neighbours together."""

    def __init__(self, folder: RemoteFolder, patience: Patience) -> None:
        self.folder, self.patience = folder, patience

    def fetch(self, spans: Sequence[Span]) -> list[bytes | ReadFailure]:
        return persist(self._ask, spans, self.patience)

    def expect(self, shards: Iterable[str]) -> None:
        """Nothing: there is nowhere to put them."""

    def _ask(self, spans: Sequence[Span], tries: int) -> list[bytes | ReadFailure]:
        # Alone at the second try: one bad stretch fails nobody but those who want it.
        alone = (_Run(shard, at, at + size, [n]) for n, (shard, at, size) in enumerate(spans))
        runs = _runs(spans) if tries == 0 else list(alone)
        answers: list[bytes | ReadFailure] = [b""] * len(spans)
        asked = [run for run in runs if run.end > run.start]
        bodies = self.folder.ranges([(run.shard, run.start, run.end - run.start) for run in asked])
        for run, body in zip(asked, bodies, strict=True):
            checked = self._check(run, body)
            for n in run.members:
                answers[n] = _cut(run, checked, spans[n])
        return answers

    def _check(self, run: _Run, body: bytes | Exception) -> bytes | ReadFailure:
        size = run.end - run.start
        if isinstance(body, Exception):
            return self.folder.failure(run.shard, body)
        if len(body) > size:
            return self.folder.failure(run.shard, WholeFileError())
        if len(body) < size:
            short = f"{len(body)} of the {size} bytes at {run.start} came"
            return self.folder.failure(run.shard, EOFError(short))
        return body


def _cut(run: _Run, body: bytes | ReadFailure, span: Span) -> bytes | ReadFailure:
    if isinstance(body, ReadFailure):
        return body
    start = span[1] - run.start
    return body[start : start + span[2]]
