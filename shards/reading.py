"""Clips by row: their bytes from the shards, checked against the index, decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from shards.corpus import Corpus, Rows
from shards.decode import (
    CANNOT_DECODE,
    DECODERS,
    Column,
    Decoder,
    decode_audio,
    decode_audio_column,
    decode_npy,
    decode_npy_column,
)
from shards.fields import AUDIO, Field
from shards.index import AUDIO_FORMATS, Index
from shards.stores import ReadFailure, Span, Store
from shards.stores.local import LocalStore

FailureKind = Literal["read", "checksum", "decode", "shape"]
"""What went wrong with a clip: its bytes did not come, are not those packed, or say nothing."""


@dataclass(frozen=True)
class Failure:
    """A clip that could not be read."""

    shard: str
    key: str
    reason: str
    kind: FailureKind


@dataclass(frozen=True)
class Clips:
    """Clips that were read, member by member, and those that could not be.

    Clip n has key ``keys[n]``, corpus row ``rows[n]``, shard ``shards[n]``, and ``members`` hold
    its decoded members.
    """

    keys: list[str]
    rows: list[int]
    shards: list[str]
    members: dict[str, Column]
    failures: list[Failure]

    def split(self, counts: Sequence[int]) -> Iterator[Clips]:
        """The first ``counts[0]`` clips, the next ``counts[1]``, ...; only where none failed."""
        columns = [_parts(column, counts) for column in self.members.values()]
        first = 0
        for count, *parts in zip(counts, *columns, strict=True):
            own = slice(first, first + count)
            members = dict(zip(self.members, parts, strict=True))
            yield Clips(self.keys[own], self.rows[own], self.shards[own], members, [])
            first += count


def _parts(column: Column, counts: Sequence[int]) -> Iterator[Column]:
    if not isinstance(column, list):
        yield from column.split(counts)
        return
    first = 0
    for count in counts:
        yield column[first : first + count]
        first += count


class ClipReader:
    """Reads the members that ``fields`` ask for, with one request a clip."""

    def __init__(
        self,
        corpus: Corpus,
        stores: Sequence[Store],
        fields: Sequence[Field],
        decoders: Mapping[str, Decoder] | None = None,
    ) -> None:
        self.corpus = corpus
        self._sources = [
            _SourceReader(
                source.index,
                store,
                fields,
                {**DECODERS, **(decoders or {})},
                corpus.key_prefix(source),
            )
            for source, store in zip(corpus.sources, stores, strict=True)
        ]

    @property
    def far(self) -> bool:
        """Whether some store gains from being told what comes next."""
        return not all(isinstance(source.store, LocalStore) for source in self._sources)

    def read(self, rows: Rows) -> Clips:
        """The clips at ``rows``, in order; one that cannot be read does not stop the others."""
        if len(self._sources) == 1:
            return self._sources[0].read(rows, rows.tolist())
        parts = [
            self._sources[number].read(local, rows[places].tolist())
            for number, places, local in self._split(rows)
        ]
        return in_order(joined(parts), rows)

    def expect(self, rows: Rows) -> None:
        """Tell the stores which shards will be read soon."""
        for number, _, local in self._split(rows):
            self._sources[number].expect(local)

    def _split(self, rows: Rows) -> Iterator[tuple[int, Rows, Rows]]:
        bases = self.corpus.row_bases
        numbers = np.searchsorted(bases, rows, side="right") - 1
        for number in np.unique(numbers).tolist():
            places = np.flatnonzero(numbers == number)
            yield number, places, rows[places] - bases[number]


@dataclass(frozen=True)
class _Member:
    """One member of those clips that have it: which clips, and where in each clip's span."""

    name: str
    clips: list[int]
    starts: list[int]
    ends: list[int]
    checksums: list[int]


@dataclass(frozen=True)
class _Fetched:
    """Clips whose bytes came: ``data[n]`` is span n, which holds the members of clip n."""

    local: Rows
    rows: list[int]
    spans: list[Span]
    members: list[_Member]
    data: list[bytes]


class _UnreadableError(Exception):
    """Why a clip among those asked for cannot be had."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind: FailureKind = kind


class _SourceReader:
    """Reads clips of one index; ``prefix`` stands before their keys."""

    def __init__(
        self,
        index: Index,
        store: Store,
        fields: Sequence[Field],
        decoders: Mapping[str, Decoder],
        prefix: str,
    ) -> None:
        self.index, self.store, self._decoders, self.prefix = index, store, decoders, prefix
        self._fields = {field.member: field for field in fields}
        self._shard_name = lru_cache(maxsize=4096)(self._read_shard_name)

    def read(self, local: Rows, rows: list[int]) -> Clips:
        spans, members = self._locate(local)
        found = self.store.fetch(spans)
        failures = [
            Failure(spans[n][0], self.prefix + self.index.key(int(local[n])), data.reason, "read")
            for n, data in enumerate(found)
            if isinstance(data, ReadFailure)
        ]
        if not failures:
            data = cast("list[bytes]", found)
            return self._readable(_Fetched(local, rows, spans, members, data))
        kept = [n for n, data in enumerate(found) if isinstance(data, bytes)]
        if not kept:
            return self._nothing(failures)
        own, data = local[kept], [cast("bytes", found[n]) for n in kept]
        clips = self._readable(_Fetched(own, [rows[n] for n in kept], *self._locate(own), data))
        return replace(clips, failures=[*failures, *clips.failures])

    def _readable(self, fetched: _Fetched) -> Clips:
        try:
            return self._clips(fetched)
        except _UnreadableError as error:  # one of them; each alone, once more, tells which
            local, rows = fetched.local, fetched.rows
            if len(rows) > 1:
                return joined(
                    [self.read(local[n : n + 1], rows[n : n + 1]) for n in range(len(rows))]
                )
            key = self.prefix + self.index.key(int(local[0]))
            shard = fetched.spans[0][0]
            return self._nothing([Failure(shard, key, str(error), error.kind)])

    def _nothing(self, failures: list[Failure]) -> Clips:
        return Clips([], [], [], {name: [] for name in self._fields}, failures)

    def _clips(self, fetched: _Fetched) -> Clips:
        rows = fetched.rows
        columns: dict[str, Column] = {}
        for member in fetched.members:
            field, column = self._treatment[member.name].field, self._decoded(member, fetched.data)
            if len(member.clips) == len(rows) and field not in columns:
                columns[field] = column
            else:
                columns[field] = _filled(columns.get(field), len(rows), member.clips, column)
        every = {name: columns.get(name, [None] * len(rows)) for name in self._fields}
        keys = [self.prefix + key for key in self.index.keys(fetched.local)]
        return Clips(keys, rows, [span[0] for span in fetched.spans], every, [])

    def _decoded(self, member: _Member, found: list[bytes]) -> Column:
        places = zip(member.clips, member.starts, member.ends, strict=True)
        parts = [found[clip][start:end] for clip, start, end in places]
        if list(map(xxh3_64_intdigest, parts)) != member.checksums:
            raise _UnreadableError(
                "checksum", f"{member.name} is not what was packed: its checksum differs"
            )
        treatment = self._treatment[member.name]
        try:
            column = treatment.decode(parts)
        except CANNOT_DECODE as error:
            raise _UnreadableError("decode", f"{member.name} cannot be decoded: {error}") from error
        self._refuse_other_shapes(self._fields[treatment.field], column)
        return column

    def _refuse_other_shapes(self, field: Field, column: Column) -> None:
        for array in listed(column) if field.shape is not None else ():
            if (mistake := field.mistaken(array.shape)) is not None:
                raise _UnreadableError("shape", mistake)

    def expect(self, local: Rows) -> None:
        shards = np.searchsorted(self.index.shard_starts, local, side="right") - 1
        self.store.expect([self._shard_name(shard) for shard in np.unique(shards).tolist()])

    @cached_property
    def _treatment(self) -> dict[str, _Treatment]:
        """What becomes of the members that are asked for, by name."""
        treated = {name: self._treat(name) for name in self.index.members.names}
        return {name: treatment for name, treatment in treated.items() if treatment}

    def _treat(self, member: str) -> _Treatment | None:
        decoder = self._decoders.get(member.rpartition(".")[2], bytes)
        if member in self._fields:
            whole = decode_npy_column if decoder is decode_npy else decoder_of_each(decoder)
            return _Treatment(member, whole)
        if AUDIO in self._fields and member in AUDIO_FORMATS:
            rate = self._fields[AUDIO].sample_rate
            if decoder is decode_audio:
                return _Treatment(AUDIO, partial(decode_audio_column, rate=rate))
            return _Treatment(AUDIO, decoder_of_each(decoder))
        return None

    @cached_property
    def _wanted(self) -> npt.NDArray[np.bool_]:
        return np.array([name in self._treatment for name in self.index.members.names])

    def _locate(self, local: Rows) -> tuple[list[Span], list[_Member]]:
        """One span a clip that holds all of its wanted members, and the members in them."""
        table = self.index.members
        starts = table.starts.take(local)
        counts = table.starts.take(local + 1) - starts
        clip = np.arange(len(local)).repeat(counts)
        places = np.arange(len(clip)) + (starts - (counts.cumsum() - counts)).repeat(counts)
        codes = table.name.take(places)
        kept = self._wanted[codes]
        clip, places, codes = clip[kept], places[kept], codes[kept]
        begin = table.offset.take(places)
        end = begin + table.size.take(places)
        # Members lie in the order of the shard: a clip's span is from its first to its last one.
        low, high = (np.zeros(len(local), dtype=np.int64) for _ in range(2))
        high[clip], low[clip[::-1]] = end, begin[::-1]
        shards = self.index.shard_starts.searchsorted(local, side="right").tolist()
        names = [self._shard_name(shard - 1) for shard in shards]
        spans = list(zip(names, low.tolist(), (high - low).tolist(), strict=True))
        begin, end, checksums = begin - low[clip], end - low[clip], table.checksum.take(places)
        members = []
        for code in np.flatnonzero(np.bincount(codes)).tolist():
            own = codes == code
            columns = [part[own].tolist() for part in (clip, begin, end, checksums)]
            members.append(_Member(table.names[code], *columns))
        return spans, members

    def _read_shard_name(self, shard: int) -> str:
        return str(self.index.shards.column("name")[shard].as_py())


@dataclass(frozen=True)
class _Treatment:
    """The field that a member is for and how many of it are decoded."""

    field: str
    decode: Callable[[Sequence[bytes]], Column]


def decoder_of_each(decoder: Decoder) -> Callable[[Sequence[bytes]], Column]:
    """Decodes many members by a decoder of one."""
    return lambda files: [decoder(file) for file in files]


def _filled(column: Column | None, count: int, clips: list[int], values: Column) -> Column:
    """``column`` with the values of some clips where it has none, for ``count`` clips."""
    filled = [None] * count if column is None else list(listed(column))
    for clip, value in zip(clips, listed(values), strict=True):
        if filled[clip] is None:
            filled[clip] = value
    return filled


def listed(column: Column) -> list[Any]:
    """A column's values, one for each clip."""
    return column if isinstance(column, list) else column.arrays()


def first_of(clips: Clips) -> Clips:
    """The first clip alone."""
    return Clips(
        clips.keys[:1],
        clips.rows[:1],
        clips.shards[:1],
        {name: listed(column)[:1] for name, column in clips.members.items()},
        [],
    )


def joined(parts: Sequence[Clips]) -> Clips:
    """Clips of several sources together."""
    return Clips(
        keys=[key for part in parts for key in part.keys],
        rows=[row for part in parts for row in part.rows],
        shards=[shard for part in parts for shard in part.shards],
        members={
            name: [value for part in parts for value in listed(part.members[name])]
            for name in parts[0].members
        },
        failures=[failure for part in parts for failure in part.failures],
    )


def in_order(clips: Clips, rows: Rows) -> Clips:
    """The clips in the order of ``rows``, of which some may be missing, and some be twice."""
    place: dict[int, list[int]] = {}
    for number, row in enumerate(clips.rows):
        place.setdefault(row, []).append(number)
    order = [place[row].pop(0) for row in rows.tolist() if place.get(row)]

    def ordered(values: list[Any]) -> list[Any]:
        return [values[number] for number in order]

    return Clips(
        ordered(clips.keys),
        ordered(clips.rows),
        ordered(clips.shards),
        {name: ordered(listed(column)) for name, column in clips.members.items()},
        clips.failures,
    )
