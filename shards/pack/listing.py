"""Everything in a corpus, listed on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from shards.audio import AudioPlace
from shards.pack.duplicates import repeated
from shards.sources.source import Recording, Reject

ROWS_PER_BATCH = 4096
GROUP_ROWS = 64
HASHES_PER_PART = 1_000_000
LISTING, GROUPS = "listing.arrow", "groups.i64"
HASHES, REPEATED = "names.u64", "repeated.i64"

ROW = pa.schema(
    [
        ("name", pa.string()),
        ("path", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("start", pa.float64()),
        ("seconds", pa.float64()),
        ("text", pa.string()),
        ("speaker", pa.string()),
        ("language", pa.string()),
        ("facts", pa.string()),
        ("figures", pa.string()),
        ("handle", pa.string()),
        ("reason", pa.string()),
        ("figure", pa.string()),
    ]
)
_FINGERPRINTED = [name for name in ROW.names if name != "path"]
"""Where a corpus lies makes no difference to its shards."""


def write_listing(folder: Path, found: Iterable[Recording | Reject], language: str) -> str:
    """List ``found`` in the empty ``folder`` and return a fingerprint of it.

    ``language`` is that of recordings without one. A name that comes a second time is a reject.
    """
    digest = xxhash.xxh3_64()
    groups = _Groups(_Growing(folder / GROUPS, np.int64))
    hashes = _Growing(folder / HASHES, np.uint64)
    with (
        pa.OSFile(str(folder / LISTING), "wb") as sink,
        pa.ipc.new_file(sink, ROW) as writer,
    ):
        for rows in _batches(found):
            listed = [_listed(row, language) for row in rows]
            writer.write_batch(pa.RecordBatch.from_pylist(listed, schema=ROW))
            for row in listed:
                digest.update(repr([row[name] for name in _FINGERPRINTED]).encode())
            groups.add([row["path"] for row in listed])
            hashes.extend([_name_hash(row) for row in listed])
    groups.close()
    hashes.close()
    again = _Growing(folder / REPEATED, np.int64)
    again.extend(_repeated_names(Listing(folder), folder / HASHES))
    again.close()
    return str(digest.hexdigest())


def _batches(found: Iterable[Recording | Reject]) -> Iterator[list[Recording | Reject]]:
    batch: list[Recording | Reject] = []
    for one in found:
        batch.append(one)
        if len(batch) == ROWS_PER_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _listed(found: Recording | Reject, language: str) -> dict[str, Any]:
    if isinstance(found, Reject):
        return dict.fromkeys(ROW.names) | {
            "name": _text(found.name),
            "path": _text(found.file) or None,
            "reason": _text(found.reason),
            "figure": _text(found.figure),
        }
    audio = found.audio
    return {
        "name": _text(found.name),
        "path": _text(str(audio.path)) if audio else None,
        "offset": audio.offset if audio else 0,
        "size": audio.size if audio else None,
        "start": found.start,
        "seconds": found.seconds,
        "text": _text(found.text),
        "speaker": _text(found.speaker),
        "language": _text(found.language or language),
        "facts": json.dumps(dict(found.facts)) if found.facts else None,
        "figures": json.dumps(dict(found.figures)) if found.figures else None,
        "handle": json.dumps(dict(found.handle)) if found.handle else None,
        "reason": None,
        "figure": None,
    }


def _name_hash(row: dict[str, Any]) -> int:
    """0 for a reject: it takes no name from a clip."""
    return 0 if row["reason"] else xxhash.xxh3_64_intdigest(row["name"].encode())


def _text(text: str) -> str:
    """``text`` as UTF-8 can hold it: lone surrogates, as of odd file names, become \\udcXX."""
    return text.encode("utf-8", "backslashreplace").decode()


class _Groups:
    """Runs of recordings that lie in one file are one group: it is opened once."""

    def __init__(self, starts: _Growing) -> None:
        self._starts = starts
        self._path: str | None = None
        self._row = self._held = 0

    def add(self, paths: Sequence[str | None]) -> None:
        first = []
        for path in paths:
            if path is None or path != self._path or self._held == GROUP_ROWS:
                first.append(self._row)
                self._held = 0
            self._path = path
            self._row += 1
            self._held += 1
        self._starts.extend(first)

    def close(self) -> None:
        """After the first row of each group stands the number of rows."""
        self._starts.extend([self._row])
        self._starts.close()


class _Growing:
    """An array that grows in a file."""

    def __init__(self, path: Path, kind: type[np.generic]) -> None:
        self._kind = kind
        self._file = path.open("wb")

    def extend(self, values: Sequence[int]) -> None:
        self._file.write(np.array(values, dtype=self._kind).tobytes())

    def close(self) -> None:
        self._file.close()


def _mapped(path: Path, kind: type[np.generic]) -> npt.NDArray[Any]:
    if path.stat().st_size == 0:
        return np.empty(0, dtype=kind)
    return np.memmap(path, kind, "r")


def _repeated_names(listing: Listing, hashes: Path) -> list[int]:
    """Rows whose name an earlier row has."""
    stored = _mapped(hashes, np.uint64)
    parts = range(0, len(stored), HASHES_PER_PART)
    found = repeated(lambda: (stored[part : part + HASHES_PER_PART] for part in parts))
    return [row for row, first in found if listing.raw(row)["name"] == listing.raw(first)["name"]]


class Listing:
    """What `write_listing` wrote, read by row."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: tuple[int, pa.RecordBatch] | None = None

    def __len__(self) -> int:
        return int(self._reader.num_record_batches and self._ends[-1])

    @cached_property
    def _reader(self) -> pa.RecordBatchFileReader:
        return pa.ipc.open_file(pa.memory_map(str(self.folder / LISTING)))

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        batches = self._reader.num_record_batches
        last = self._reader.get_batch(batches - 1).num_rows
        ends = np.arange(1, batches + 1, dtype=np.int64) * ROWS_PER_BATCH
        ends[-1] += last - ROWS_PER_BATCH
        return ends

    @cached_property
    def groups(self) -> npt.NDArray[np.int64]:
        """The first row of each group and, last, the number of rows, mapped from disk."""
        return _mapped(self.folder / GROUPS, np.int64)

    @cached_property
    def _repeated(self) -> frozenset[int]:
        return frozenset(_mapped(self.folder / REPEATED, np.int64).tolist())

    def __getstate__(self) -> Path:
        return self.folder

    def __setstate__(self, folder: Path) -> None:
        self.folder, self._held = folder, None

    def _batch(self, number: int) -> pa.RecordBatch:
        if self._held is None or self._held[0] != number:
            self._held = number, self._reader.get_batch(number)
        return self._held[1]

    def raw(self, row: int) -> dict[str, Any]:
        """The columns of a row."""
        batch = self._batch(row // ROWS_PER_BATCH)
        columns: dict[str, Any] = batch.slice(row % ROWS_PER_BATCH, 1).to_pylist()[0]
        return columns

    def row(self, row: int) -> Recording | Reject:
        """What was listed at a place."""
        raw = self.raw(row)
        if raw["reason"]:
            return Reject(raw["name"], raw["reason"], raw["figure"] or "", raw["path"] or "")
        if row in self._repeated:
            return Reject(raw["name"], "listed twice", "", raw["path"] or "")
        place = raw["path"] and AudioPlace(Path(raw["path"]), raw["offset"], raw["size"])
        return Recording(
            raw["name"],
            place or None,
            raw["start"],
            raw["seconds"],
            raw["text"],
            raw["speaker"],
            raw["language"],
            *(
                json.loads(raw[name]) if raw[name] else {}
                for name in ("facts", "figures", "handle")
            ),
        )

    def spread(self, count: int) -> list[int]:
        """At most ``count`` rows, evenly over the whole."""
        step = max(1.0, len(self) / count)
        return [int(n * step) for n in range(min(count, len(self)))]
