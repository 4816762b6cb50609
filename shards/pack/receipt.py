"""The receipt of a finished block, by which it is not made again and the index is written."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from shards.atomic import to_disk
from shards.index import ShardFacts
from shards.sources.source import Reject

SOUND, WORDS, NAME, FILE = "#sound", "#words", "#name", "#file"
"""Columns of a block's rows that the index does not keep: hashes to find duplicates by, and what
a reject is called. No member and no figure can have such a name."""


class BlockDone:
    """The receipt of a block in the folder ``work``: its rows, shards and rejects.

    ``block`` is its number, or a name; ``fingerprint`` that of the settings it is made with.
    """

    def __init__(self, work: Path, block: int | str, fingerprint: str = "") -> None:
        self._fingerprint = fingerprint
        name = block if isinstance(block, str) else f"{block:06d}"
        self._rows_path = work / f"block-{name}.arrow"
        self._facts_path = work / f"block-{name}.json"

    def draft(
        self,
        table: pa.Table,
        shards: Sequence[ShardFacts],
        rejects: Sequence[Reject],
        largest: dict[str, int],
    ) -> None:
        """Prepare a receipt without waiting for the disk.

        ``table`` has the columns of an index, and those named above.
        """
        with (
            pa.OSFile(str(_draft(self._rows_path)), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            writer.write_table(table)
        facts = {
            "fingerprint": self._fingerprint,
            "shards": [asdict(shard) for shard in shards],
            "rejects": [asdict(reject) for reject in rejects],
            "largest": largest,
            "seconds": pc.sum(table.column("seconds")).as_py() or 0.0,
        }
        _draft(self._facts_path).write_text(json.dumps(facts), encoding="utf-8")

    def confirm(self, out: Path) -> None:
        """Put the draft down once its shards in ``out`` are on the disk."""
        facts = json.loads(_draft(self._facts_path).read_text(encoding="utf-8"))
        for shard in facts["shards"]:
            to_disk(out / shard["name"])
        self.put_down()

    def put_down(self) -> None:
        """Make a receipt of the draft."""
        for path in (self._rows_path, self._facts_path):
            to_disk(_draft(path))
            os.replace(_draft(path), path)

    @property
    def paths(self) -> tuple[Path, Path]:
        """The files it consists of."""
        return self._rows_path, self._facts_path

    @property
    def there(self) -> bool:
        """Whether the block was finished, with the same settings."""
        return self._own_facts() is not None

    def _own_facts(self) -> dict[str, Any] | None:
        if not (self._rows_path.is_file() and self._facts_path.is_file()):
            return None
        try:
            facts = self._facts if self.schema is not None else {}
            return facts if facts["fingerprint"] == self._fingerprint else None
        except (ValueError, KeyError, OSError):
            return None  # a machine that lost power left half of it

    def whole(self, out: Path) -> bool:
        """Whether it was finished and its shards in ``out`` are as long as they were."""
        facts = self._own_facts()
        return facts is not None and all(
            (out / shard["name"]).is_file()
            and (out / shard["name"]).stat().st_size == shard["bytes"]
            for shard in facts["shards"]
        )

    def forget(self) -> None:
        """Remove the receipt: the block has to be made again."""
        self._facts_path.unlink(missing_ok=True)

    @property
    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self._facts_path.read_text(encoding="utf-8"))
        return facts

    @property
    def shards(self) -> list[ShardFacts]:
        """The block's shards, in the order of the rows."""
        return [ShardFacts(**shard) for shard in self._facts["shards"]]

    @property
    def rejects(self) -> list[Reject]:
        """What did not get in."""
        return [Reject(**reject) for reject in self._facts["rejects"]]

    @property
    def clips(self) -> int:
        """How many clips got in."""
        return sum(shard.rows for shard in self.shards)

    @property
    def hours(self) -> float:
        """How much audio they are."""
        return float(self._facts["seconds"]) / 3600

    @property
    def largest(self) -> dict[str, int]:
        """The largest value of each integer member."""
        return dict(self._facts["largest"])

    @property
    def table(self) -> pa.Table:
        """The rows, mapped from disk."""
        return pa.ipc.open_file(pa.memory_map(str(self._rows_path))).read_all()

    @property
    def schema(self) -> pa.Schema:
        """The columns of `table`."""
        return pa.ipc.open_file(pa.memory_map(str(self._rows_path))).schema


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.draft")
