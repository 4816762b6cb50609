"""An index over foreign WebDataset tars where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from os import fsencode
from pathlib import Path

import pyarrow as pa
import xxhash

from shards.atomic import sweep
from shards.errors import UserError
from shards.index import ClipRow, ShardFacts
from shards.index_writer import largest_values, rows_table
from shards.pack.config import PackConfig
from shards.pack.finish import PackReport, write_dataset
from shards.pack.job import explained, pool_of
from shards.pack.progress import Watch
from shards.pack.receipt import SOUND, WORDS, BlockDone
from shards.pack.recipe import WORK_FOLDER
from shards.pack.state import SETTINGS
from shards.sources.paths import printable
from shards.sources.source import Reject
from shards.sources.webdataset import PACKED, tar_flaw, tars_below
from shards.tar_index import ScannedShard, scan_shard
from shards.tars import heard


@dataclass(frozen=True)
class _Tar:
    """A tar to be read, ``flaw`` being why it cannot be; its receipt is another for another
    content, as far as size and time of change tell."""

    name: str
    flaw: str
    receipt: str

    @classmethod
    def at(cls, folder: Path, name: str) -> _Tar:
        flaw = tar_flaw(folder / name) or _misnamed(name)
        facts = None if flaw else (folder / name).stat()
        known = f"{facts.st_size}\0{facts.st_mtime_ns}" if facts else flaw
        told = fsencode(name) + b"\0" + known.encode()
        return cls(name, flaw, xxhash.xxh3_128_hexdigest(told))


def index_tars(folder: Path, config: PackConfig, *, workers: int, watch: Watch) -> PackReport:
    """Read every tar below ``folder`` once and write ``folder/index.arrow``.

    Of ``config`` only duplicates, validation and seed matter. Tars that an earlier start has read
    and that have not changed since are not read again; folders below that were packed here are
    passed over. UserError for a folder without tars, or one that was packed here itself.
    """
    tars = _tars(folder)
    work = folder / WORK_FOLDER
    work.mkdir(exist_ok=True)
    with explained(folder, workers), pool_of(workers) as pool:
        watch.say(f"{len(tars):,} tars in {folder}")
        blocks = [BlockDone(work, tar.receipt) for tar in tars]
        _scan(pool, folder, tars, blocks, watch)
        _forget_others(work, blocks)
        sweep(work)
        return write_dataset(folder, blocks, config, {"features": {}})


def _tars(folder: Path) -> list[_Tar]:
    if not folder.is_dir():
        raise UserError(f"DIR: {folder} is no folder; name one with .tar files")
    if (folder / SETTINGS).is_file():
        raise UserError(f"DIR: {folder} was packed by 'segue shards pack', which wrote its index")
    names = sorted(path.relative_to(folder).as_posix() for path in tars_below(folder))
    if not names:
        raise UserError(f"DIR: {folder} holds no .tar files; name a folder that does")
    return [_Tar.at(folder, name) for name in names]


def _misnamed(name: str) -> str:
    return "" if printable(name) == name else "a name that is not UTF-8"


def _scan(
    pool: Executor, folder: Path, tars: Sequence[_Tar], blocks: Sequence[BlockDone], watch: Watch
) -> None:
    missing = [tar for tar, block in zip(tars, blocks, strict=True) if not block.there]
    if len(missing) < len(tars):
        watch.say(f"{len(tars) - len(missing):,} of them are read already")
    done = pool.map(partial(_read, folder), missing)
    for number, (tar, _) in enumerate(zip(missing, done, strict=True), 1):
        watch.say(f"{printable(tar.name)} ({number:,}/{len(missing):,})")


def _read(folder: Path, tar: _Tar) -> None:
    scanned = _scanned(folder, tar)
    table = rows_table(scanned.rows)
    hashes = {SOUND: list(_sounds(scanned.rows)), WORDS: [0] * len(scanned.rows)}
    for name, values in hashes.items():
        table = table.append_column(name, pa.array(values, type=pa.uint64()))
    largest = largest_values(scanned.rows)
    shards = [scanned.shard] if scanned.rows else []
    receipt = BlockDone(folder / WORK_FOLDER, tar.receipt)
    receipt.draft(table, shards, scanned.rejects, largest)
    receipt.put_down()


def _scanned(folder: Path, tar: _Tar) -> ScannedShard:
    if tar.flaw:
        return _refused(folder, tar, tar.flaw)
    try:
        return scan_shard(folder, tar.name)
    except UserError:
        return _refused(folder, tar, PACKED)


def _refused(folder: Path, tar: _Tar, reason: str) -> ScannedShard:
    name, file = printable(tar.name), printable(str(folder / tar.name))
    return ScannedShard([], [Reject(name, reason, "", file)], ShardFacts(name, 0, 0, 0))


def _sounds(rows: Sequence[ClipRow]) -> Iterator[int]:
    """The checksum of the file that is heard of each clip, 0 without: nothing is decoded here."""
    for row in rows:
        place = heard([member.name for member in row.members])
        yield 0 if place is None else row.members[place].checksum


def _forget_others(work: Path, blocks: Sequence[BlockDone]) -> None:
    kept = {path for block in blocks for path in block.paths}
    for path in work.glob("block-*"):
        if path not in kept:
            path.unlink()
