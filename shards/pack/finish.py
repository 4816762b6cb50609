"""Finished blocks into one dataset: duplicates out, speakers split, index and rejects written."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shards.errors import UserError
from shards.index import FACTS, SPLIT, ShardFacts
from shards.index_writer import IndexWriter, raise_to
from shards.pack.config import PackConfig
from shards.pack.receipt import WORDS, BlockDone
from shards.pack.recipe import WORK_FOLDER
from shards.pack.rejects import REJECTS, rejects_writer
from shards.pack.repeats import Repeats, find_repeats
from shards.pack.split import TRAIN, VALIDATION, validation_speakers
from shards.pack.state import State
from shards.pack.work import forget_work


@dataclass
class PackReport:
    """What packing gave.

    ``near`` counts clips that stay though another is nearly the same, ``wordless`` those without
    text.
    """

    clips: int = 0
    hours: float = 0.0
    shards: int = 0
    near: int = 0
    wordless: int = 0
    wants_validation: bool = False
    validation: frozenset[str] = frozenset()
    validation_share: float = 0.0
    rejects: Counter[str] = field(default_factory=Counter)


def finish(out: Path) -> PackReport:
    """Write the index and the rejects of all the blocks that ``out`` was to have.

    UserError where blocks are missing or not one clip got in.
    """
    state = State.read(out)
    blocks = _all_blocks(out, state)
    report = write_dataset(out, blocks, state.config, {"features": state.about})
    forget_work(out)
    return report


def write_dataset(
    out: Path, blocks: Sequence[BlockDone], config: PackConfig, about: Mapping[str, Any]
) -> PackReport:
    """Write the index and the rejects of ``blocks``, whose shards lie in ``out``.

    ``about`` goes into the index. UserError where not one clip got in.
    """
    repeats = find_repeats(blocks, config.duplicates)
    held = _seconds_by_speaker(repeats)
    speakers = validation_speakers(held, config)
    report = PackReport(
        near=repeats.near,
        wants_validation=config.validation > 0,
        validation=speakers,
        validation_share=sum(held[one] for one in speakers) / max(sum(held.values()), 1e-9),
    )
    writer = _index_writer(out, blocks, speakers)
    largest: dict[str, int] = {}
    with rejects_writer(out) as rejects:
        for number, (block, again) in enumerate(zip(blocks, repeats.rejects(), strict=True)):
            table, shards = _staying(block, repeats.kept(number))
            lost = [*block.rejects, *again]
            rejects.add(lost)
            report.rejects.update(reject.reason for reject in lost)
            writer.add(_with_split(table, speakers), shards)
            raise_to(largest, block.largest)
            report.shards += len(shards)
            report.wordless += int(np.sum(table.column(WORDS).to_numpy() == 0))
            report.hours += float(np.sum(table.column("seconds").to_numpy(), dtype=float)) / 3600
    report.clips = writer.rows
    if report.clips == 0:
        _refuse_nothing(out, blocks, report)
    writer.finish(out, {"largest": largest, **about})
    return report


def _all_blocks(out: Path, state: State) -> list[BlockDone]:
    count, work = state.blocks, out / WORK_FOLDER
    blocks = [BlockDone(work, number, state.fingerprint) for number in range(count)]
    missing = [number for number, block in enumerate(blocks) if not block.whole(out)]
    if missing:
        some = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        raise UserError(
            f"OUT: {out} has {count - len(missing)} of {count} blocks, without {some}; run the "
            "parts that have not finished (part i/n makes blocks i-1, i-1+n, i-1+2n, ...)"
        )
    return blocks


def _index_writer(out: Path, blocks: Sequence[BlockDone], speakers: frozenset[str]) -> IndexWriter:
    """For the columns of all blocks but those whose names begin with #, which are for packing."""
    own = {
        (column.name, column.type)
        for block in blocks
        for column in block.schema
        if column.name not in FACTS and not column.name.startswith("#")
    }
    lengths = {name for name, kind in own if pa.types.is_integer(kind)}
    return IndexWriter(
        out / WORK_FOLDER,
        lengths=sorted(lengths),
        figures=sorted({name for name, _ in own} - lengths),
        names=[SPLIT] if speakers else [],
    )


def _seconds_by_speaker(repeats: Repeats) -> dict[str, float]:
    """Audio of the clips that stay."""
    seconds: dict[str, float] = defaultdict(float)
    for number, block in enumerate(repeats.blocks):
        kept = repeats.kept(number)
        if not kept.any():
            continue
        table = block.table
        coded = table.column("speaker").combine_chunks()
        own, speakers = coded.indices.to_numpy()[kept], len(coded.dictionary)
        sums = np.bincount(own, table.column("seconds").to_numpy()[kept], speakers)
        for code in np.unique(own):
            seconds[coded.dictionary[int(code)].as_py()] += float(sums[code])
    return seconds


def _staying(block: BlockDone, kept: npt.NDArray[np.bool_]) -> tuple[pa.Table, list[ShardFacts]]:
    """A block's ``kept`` rows, and the shards with what is left of them."""
    table, shards = block.table, block.shards
    if kept.all():
        return table, shards
    ends = np.cumsum([shard.rows for shard in shards])
    left = [int(part.sum()) for part in np.split(kept, ends[:-1])]
    counted = [replace(shard, rows=rows) for shard, rows in zip(shards, left, strict=True)]
    return table.take(np.flatnonzero(kept)), [shard for shard in counted if shard.rows]


def _with_split(table: pa.Table, speakers: frozenset[str]) -> pa.Table:
    if not speakers:
        return table
    names = (VALIDATION if s in speakers else TRAIN for s in table.column("speaker").to_pylist())
    return table.append_column(SPLIT, pa.array(list(names), type=pa.string()))


def _refuse_nothing(out: Path, blocks: Sequence[BlockDone], report: PackReport) -> None:
    for block in blocks:
        block.forget()
    reasons = ", ".join(f"{count} x {reason}" for reason, count in report.rejects.most_common())
    raise UserError(
        f"SOURCE: not one clip could be packed ({reasons}); see {out / REJECTS} for each"
    )
