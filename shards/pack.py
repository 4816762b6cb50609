"""Packing a corpus: scan, fit what must be fitted, write shards in parallel, index them."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import soundfile
import xxhash

from shards.atomic import replacing
from shards.audio import read_audio
from shards.errors import UserError
from shards.features.registry import CODEBOOK, features_named
from shards.index import FILE_NAME, FORMAT, write_index
from shards.layout import lay_out
from shards.processes import die_with_parent
from shards.sources import open_source
from shards.sources.source import Reject, Utterance
from shards.write import WORK_FOLDER, Recipe, ShardResult, finished_shard, write_shard

SETTINGS = "pack.json"
FIT_SECONDS = 2 * 3600.0
"""Audio that units.mfcc is fitted to: 180,000 frames, 900 a unit with the default 200 units."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class PackOptions:
    """How to pack. ``features`` None takes what the kind of source needs."""

    features: tuple[str, ...] | None = None
    units: int = 200
    symbols: str = "v2"
    shard_hours: float = 1.0
    keep_audio: bool = False
    seed: int = 0
    workers: int = os.cpu_count() or 1


@dataclass(frozen=True)
class PackReport:
    """What packing gave."""

    clips: int
    hours: float
    shards: int
    rejects: Counter[str]


def pack(source_path: Path, out: Path, options: PackOptions, say: Say) -> PackReport:
    """Pack the corpus at ``source_path`` into shards, index and rejects in ``out``.

    Killed and started again it keeps finished shards; a finished folder is left as it is.
    UserError for an unknown source, other settings than ``out`` was begun with, or no clip left.
    """
    source = open_source(source_path, symbols=options.symbols)
    names = source.default_features if options.features is None else options.features
    features = features_named(names, out)
    scanned = list(source.utterances())
    if not scanned:
        raise UserError(f"SOURCE: {source.path} lists no clips; give a corpus that has some")
    try:
        (out / WORK_FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"OUT: {out} cannot be made ({error.strerror}); name a folder") from error
    _refuse_other_settings(out, _settings(source_path, names, options, scanned))
    utterances = [found for found in scanned if isinstance(found, Utterance)]
    rejects = [found for found in scanned if isinstance(found, Reject)]
    say(f"{len(utterances)} clips, {len(rejects)} rejected, in {source.path}")
    if not utterances:
        return _finish(out, [], rejects, {})
    with _pool(options.workers) as pool:
        if "units.mfcc" in names and not (out / CODEBOOK).is_file():
            say(f"fitting {options.units} units to MFCCs")
            _fit_units(pool, utterances, out / CODEBOOK, options)
        layouts = lay_out(utterances, shard_hours=options.shard_hours, seed=options.seed)
        recipe = Recipe(source, features, out, options.keep_audio)
        results = {layout.name: finished_shard(out, layout) for layout in layouts}
        missing = [layout for layout in layouts if results[layout.name] is None]
        if len(missing) < len(layouts):
            say(f"{len(layouts) - len(missing)} of {len(layouts)} shards are there already")
        written = pool.map(partial(write_shard, recipe), missing)
        for number, (layout, result) in enumerate(zip(missing, written, strict=True), 1):
            results[layout.name] = result
            say(f"{layout.name}: {len(result.rows)} clips ({number}/{len(missing)})")
    about = {feature.member: feature.about() for feature in features}
    return _finish(out, [r for r in results.values() if r], rejects, {"features": about})


def _finish(
    out: Path, results: Sequence[ShardResult], rejects: Sequence[Reject], about: dict[str, Any]
) -> PackReport:
    rows = [row for result in results for row in result.rows]
    refused = [*rejects, *(reject for result in results for reject in result.rejects)]
    _write_rejects(out / "rejects.parquet", refused)
    if not rows:
        reasons = ", ".join(f"{n} x {reason}" for reason, n in count_reasons(refused).items())
        raise UserError(
            f"SOURCE: not one clip could be packed ({reasons or 'it lists none'}); "
            f"see {out / 'rejects.parquet'}"
        )
    write_index(out, rows, [result.shard for result in results if result.rows], about)
    return PackReport(
        clips=len(rows),
        hours=sum(row.seconds for row in rows) / 3600,
        shards=len({row.shard for row in rows}),
        rejects=count_reasons(refused),
    )


def count_reasons(rejects: Iterable[Reject]) -> Counter[str]:
    """How many clips were rejected for each reason."""
    return Counter(reject.reason for reject in rejects)


def is_packed(out: Path) -> bool:
    """Whether ``out`` holds finished shards."""
    return (out / FILE_NAME).is_file()


def _settings(
    source: Path, features: Sequence[str], options: PackOptions, scanned: Sequence[object]
) -> dict[str, Any]:
    """Everything that the shards depend on; the corpus stands in it by a checksum."""
    corpus = xxhash.xxh3_64("\n".join(map(repr, scanned)).encode()).hexdigest()
    chosen = {key: value for key, value in asdict(options).items() if key != "workers"}
    return {
        **chosen,
        "format": FORMAT,
        "source": str(source.resolve()),
        "corpus": f"{len(scanned)} lines ({corpus})",
        "features": list(features),
    }


def _refuse_other_settings(out: Path, ours: dict[str, Any]) -> None:
    path = out / SETTINGS
    begun = any((out / WORK_FOLDER).iterdir()) or (out / CODEBOOK).is_file()
    if path.is_file() and (begun or is_packed(out)):
        theirs = json.loads(path.read_text(encoding="utf-8"))
        other = [
            f"{key} was {theirs.get(key)} and is now {ours[key]}"
            for key in ours
            if theirs.get(key) != ours[key]
        ]
        if other:
            raise UserError(
                f"OUT: {out} was begun with other settings ({'; '.join(other)}); "
                "choose an empty folder"
            )
    elif is_packed(out):
        raise UserError(f"OUT: {out} holds an index of another origin; choose an empty folder")
    with replacing(path) as aside:
        aside.write_text(json.dumps(ours, indent=1), encoding="utf-8")


def _pool(workers: int) -> ProcessPoolExecutor:
    # Spawned, not forked: the parent may have used OpenMP, whose threads do not survive a fork.
    return ProcessPoolExecutor(
        max_workers=workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin_worker,
    )


def _begin_worker() -> None:
    import torch

    die_with_parent()

    torch.set_num_threads(1)


def _fit_units(
    pool: ProcessPoolExecutor, utterances: Sequence[Utterance], path: Path, options: PackOptions
) -> None:
    from shards.features.units_mfcc import MfccUnits

    sample = list(_sample(utterances, options.seed))
    found = pool.map(_mfcc_of, sample, chunksize=8)
    features = [frames for frames in found if frames is not None]
    MfccUnits.fit(features, clusters=options.units, seed=options.seed).save(path)


def _sample(utterances: Sequence[Utterance], seed: int) -> Iterator[Path]:
    order = list(utterances)
    random.Random(seed).shuffle(order)
    seconds = 0.0
    for utterance in order:
        if utterance.audio and seconds < FIT_SECONDS:
            seconds += utterance.seconds
            yield utterance.audio


def _mfcc_of(path: Path) -> Any:
    from shards.features.units_mfcc import mfcc25

    try:
        audio = read_audio(path)
        return mfcc25(audio.samples, audio.sample_rate)
    except (ValueError, soundfile.LibsndfileError):
        return None  # rejected with its reason when its shard is written


def _write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    columns = {
        field: [getattr(reject, field) for reject in rejects]
        for field in ("name", "reason", "figure")
    }
    schema = pa.schema([(field, pa.string()) for field in columns])
    with replacing(path) as aside:
        pyarrow.parquet.write_table(pa.table(columns, schema=schema), aside)
