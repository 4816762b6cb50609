"""What did not get into a folder of shards."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from shards.errors import UserError
from shards.pack.rejects import REJECTS


def rejects(folder: Path) -> dict[str, int] | None:
    """Rejected clips by reason, most first; None if the folder does not say.

    UserError if its rejects.parquet cannot be read.
    """
    path = folder / REJECTS
    if not path.is_file():
        return None
    try:
        return dict(_counted(path).most_common())
    except (pa.ArrowException, OSError, LookupError) as error:
        raise UserError(
            f"DIR: {path} is no list of rejects that can be read; delete it or pack again"
        ) from error


def _counted(path: Path) -> Counter[str]:
    from pyarrow.parquet import ParquetFile

    counts: Counter[str] = Counter()
    with ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["reason"]):
            for counted in pc.value_counts(batch.column("reason")).to_pylist():
                counts[str(counted["values"])] += counted["counts"]
    return counts
