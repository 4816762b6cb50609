"""``rejects.parquet``: what did not get in, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from shards.atomic import replacing
from shards.sources.source import Reject

REJECTS = "rejects.parquet"
_COLUMNS = pa.schema([(name, pa.string()) for name in ("name", "reason", "figure", "file")])


class RejectsWriter:
    """The file being written, some rejects at a time."""

    def __init__(self, writer: pyarrow.parquet.ParquetWriter) -> None:
        self._writer = writer

    def add(self, rejects: Sequence[Reject]) -> None:
        """Append ``rejects``."""
        columns = {name: [getattr(one, name) for one in rejects] for name in _COLUMNS.names}
        self._writer.write_table(pa.table(columns, schema=_COLUMNS))


@contextmanager
def rejects_writer(out: Path) -> Iterator[RejectsWriter]:
    """``out/rejects.parquet``, there when the block ends well."""
    with (
        replacing(out / REJECTS) as aside,
        pyarrow.parquet.ParquetWriter(aside, _COLUMNS) as writer,
    ):
        yield RejectsWriter(writer)
