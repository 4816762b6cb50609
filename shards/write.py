"""Writing one shard: a tar of clips, the rows that index it, and what did not get in."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import webdataset
import xxhash

from shards.atomic import replacing
from shards.audio import read_audio
from shards.features.registry import Feature
from shards.index import ClipRow, Member, ShardFacts
from shards.layout import ShardLayout
from shards.sources.source import Reject, Source, Utterance

WORK_FOLDER = ".pack"

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Recipe:
    """How clips become members; every worker process holds one."""

    source: Source
    features: tuple[Feature, ...]
    out: Path
    keep_audio: bool


@dataclass(frozen=True)
class ShardResult:
    """A finished shard's rows, its rejects and the shard itself."""

    rows: tuple[ClipRow, ...]
    rejects: tuple[Reject, ...]
    shard: ShardFacts


def write_shard(recipe: Recipe, layout: ShardLayout) -> ShardResult:
    """Write one shard atomically, and its result last, as the receipt of a finished shard."""
    aside = recipe.out / WORK_FOLDER / f"{layout.name}.{os.getpid()}"
    kept: list[tuple[Utterance, Arrays]] = []
    rejects: list[Reject] = []
    with webdataset.TarWriter(str(aside), user="segue", group="segue", mtime=0) as tar:
        for utterance in layout.utterances:
            try:
                arrays = _arrays(recipe, utterance)
            except (ValueError, soundfile.LibsndfileError) as error:
                rejects.append(Reject(utterance.name, str(error)))
                continue
            tar.write(_sample(recipe, utterance, arrays))
            kept.append((utterance, arrays))
    written = aside.read_bytes()
    places = member_places(written)
    rows = [_row(layout.name, u, a, places[u.key], recipe.source.path.name) for u, a in kept]
    facts = ShardFacts(layout.name, len(rows), len(written), xxhash.xxh3_64_intdigest(written))
    result = ShardResult(tuple(rows), tuple(rejects), facts)
    os.replace(aside, recipe.out / layout.name)
    _write_receipt(_receipt(recipe.out, layout), result)
    return result


def finished_shard(out: Path, layout: ShardLayout) -> ShardResult | None:
    """The result of a shard that is there as its receipt says, else None: it must be made."""
    receipt, shard = _receipt(out, layout), out / layout.name
    if not (receipt.is_file() and shard.is_file()):
        return None
    result = _read_receipt(receipt)
    return result if shard.stat().st_size == result.shard.bytes else None


def _receipt(out: Path, layout: ShardLayout) -> Path:
    return out / WORK_FOLDER / f"{layout.name}.json"


def _arrays(recipe: Recipe, utterance: Utterance) -> Arrays:
    arrays = dict(recipe.source.arrays(utterance))
    audio = read_audio(utterance.audio) if recipe.features and utterance.audio else None
    for feature in recipe.features:
        arrays[feature.member] = feature.compute(utterance, audio)
    return arrays


def _sample(recipe: Recipe, utterance: Utterance, arrays: Arrays) -> dict[str, Any]:
    facts = {
        "name": utterance.name,
        "seconds": round(utterance.seconds, 4),
        "speaker": utterance.speaker,
        "language": utterance.language,
        "text": utterance.text,
        "source": recipe.source.path.name,
    }
    sample: dict[str, Any] = {"__key__": utterance.key, **arrays}
    sample["json"] = json.dumps(facts, ensure_ascii=False).encode()
    if recipe.keep_audio and utterance.audio:
        sample[utterance.audio.suffix.lstrip(".").lower() or "wav"] = utterance.audio.read_bytes()
    return sample


def member_places(tar: bytes) -> Mapping[str, Sequence[Member]]:
    """The members of each key of a tar, in order."""
    members: dict[str, list[Member]] = defaultdict(list)
    with tarfile.open(fileobj=io.BytesIO(tar)) as file:
        for info in file:
            folder, _, base = info.name.rpartition("/")
            stem, _, extension = base.partition(".")
            key = f"{folder}/{stem}" if folder else stem
            data = memoryview(tar)[info.offset_data : info.offset_data + info.size]
            checksum = xxhash.xxh3_64_intdigest(data)
            members[key].append(Member(extension, info.offset_data, info.size, checksum))
    return members


def _row(
    shard: str, utterance: Utterance, arrays: Arrays, members: Sequence[Member], source: str
) -> ClipRow:
    names = {name: name.removesuffix(".npy") for name in arrays}
    first, last = members[0], members[-1]
    return ClipRow(
        key=utterance.key,
        shard=shard,
        offset=first.offset,
        size=last.offset + last.size - first.offset,
        members=tuple(members),
        seconds=utterance.seconds,
        speaker=utterance.speaker,
        language=utterance.language,
        source=source,
        lengths={names[name]: array.shape[-1] for name, array in arrays.items()},
        largest={
            names[name]: int(array.max())
            for name, array in arrays.items()
            if np.issubdtype(array.dtype, np.integer) and array.size
        },
    )


def _write_receipt(path: Path, result: ShardResult) -> None:
    with replacing(path) as aside:
        aside.write_text(json.dumps(asdict(result), ensure_ascii=False), encoding="utf-8")


def _read_receipt(path: Path) -> ShardResult:
    saved = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        ClipRow(**{**row, "members": tuple(Member(**member) for member in row["members"])})
        for row in saved["rows"]
    ]
    rejects = [Reject(**reject) for reject in saved["rejects"]]
    return ShardResult(tuple(rows), tuple(rejects), ShardFacts(**saved["shard"]))
