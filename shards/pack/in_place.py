"""An index over foreign WebDataset tars where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import pyarrow as pa
import xxhash

from shards.atomic import sweep
from shards.decode import AUDIO
from shards.errors import UserError
from shards.index import ClipRow
from shards.index_writer import largest_values, rows_table
from shards.pack.config import PackConfig
from shards.pack.finish import PackReport, write_dataset
from shards.pack.job import explained, pool_of
from shards.pack.progress import Watch
from shards.pack.receipt import SOUND, WORDS, BlockDone
from shards.pack.recipe import WORK_FOLDER
from shards.pack.state import SETTINGS
from shards.tar_index import scan_shard


def index_tars(folder: Path, config: PackConfig, *, workers: int, watch: Watch) -> PackReport:
    """Read every tar below ``folder`` once and write ``folder/index.arrow``.

    Of ``config`` only duplicates and validation matter. Tars that an earlier start has read and
    that have not changed since are not read again. UserError for a folder without tars, or one
    that was packed here.
    """
    tars = _tars(folder)
    work = folder / WORK_FOLDER
    work.mkdir(exist_ok=True)
    with explained(folder, workers), pool_of(workers) as pool:
        watch.say(f"{len(tars):,} tars in {folder}")
        blocks = [BlockDone(work, _receipt_name(folder, name)) for name in tars]
        _scan(pool, folder, tars, blocks, watch)
        _forget_others(work, blocks)
        sweep(work)
        return write_dataset(folder, blocks, config, {"features": {}})


def _tars(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(f"DIR: {folder} is no folder; name one with .tar files")
    if (folder / SETTINGS).is_file():
        raise UserError(f"DIR: {folder} was packed by 'segue shards pack', which wrote its index")
    found = (path.relative_to(folder) for path in folder.rglob("*.tar"))
    names = sorted(path.as_posix() for path in found if not _hidden(path))
    if not names:
        raise UserError(f"DIR: {folder} holds no .tar files; name a folder that does")
    return names


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _receipt_name(folder: Path, name: str) -> str:
    """Another for another content, as far as size and time of change tell."""
    facts = (folder / name).stat()
    return xxhash.xxh3_128_hexdigest(f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}".encode())


def _scan(
    pool: Executor, folder: Path, tars: Sequence[str], blocks: Sequence[BlockDone], watch: Watch
) -> None:
    missing = [n for n, block in enumerate(blocks) if not block.there]
    if len(missing) < len(tars):
        watch.say(f"{len(tars) - len(missing):,} of them are read already")
    task = partial(_read, folder)
    names = [(tars[n], _receipt_name(folder, tars[n])) for n in missing]
    for number, (name, _) in enumerate(zip(names, pool.map(task, names), strict=True), 1):
        watch.say(f"{name[0]} ({number:,}/{len(missing):,})")


def _read(folder: Path, named: tuple[str, str]) -> None:
    scanned = scan_shard(folder, named[0])
    table = rows_table(scanned.rows)
    hashes = {SOUND: list(_sounds(scanned.rows)), WORDS: [0] * len(scanned.rows)}
    for name, values in hashes.items():
        table = table.append_column(name, pa.array(values, type=pa.uint64()))
    largest = largest_values(scanned.rows)
    shards = [scanned.shard] if scanned.rows else []
    BlockDone.write(folder / WORK_FOLDER, named[1], table, shards, scanned.rejects, largest)


def _sounds(rows: Sequence[ClipRow]) -> Iterator[int]:
    """The checksum of each clip's audio file: nothing is decoded here."""
    for row in rows:
        yield next((m.checksum for m in row.members if m.name.rpartition(".")[2] in AUDIO), 0)


def _forget_others(work: Path, blocks: Sequence[BlockDone]) -> None:
    kept = {path for block in blocks for path in block.paths}
    for path in work.glob("block-*"):
        if path not in kept:
            path.unlink()
