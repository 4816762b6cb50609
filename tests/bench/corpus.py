"""Made-up corpora to measure with: token clips, FLAC clips, and indexes of any size.

    python tests/bench/corpus.py OUT --kind tokens|audio|voiced --clips N
Lengths are log-normal (median 6 s, sigma 0.7, 1 to 54 s), as in speech corpora.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
import webdataset

from shards.index import MEMBER, NAMES, ShardFacts
from shards.index_writer import write_columns, write_index
from shards.tar_index import scan_shard

CLIPS_PER_SHARD = 600
BUCKETS = 8
TOKENS_PER_SECOND = {"phonemes": 12, "semantic": 25}
RATES = (22_050, 32_000)
Sample = dict[str, Any]


def lengths(clips: int, seed: int = 0) -> np.ndarray:
    """Clip seconds, packed as `segue shards pack` does: shards of like lengths."""
    chance = np.random.default_rng(seed)
    seconds = chance.lognormal(np.log(6), 0.7, clips).clip(1, 54).astype(np.float32)
    inner = np.quantile(seconds, np.linspace(0, 1, BUCKETS + 1)[1:-1])
    return seconds[np.argsort(np.digitize(seconds, inner), kind="stable")]


def token_sample(number: int, seconds: float, chance: np.random.Generator) -> Sample:
    """Random phonemes and semantic tokens of a clip."""
    return {
        f"{name}.npy": chance.integers(0, 300, max(1, int(rate * seconds))).astype(np.int16)
        for name, rate in TOKENS_PER_SECOND.items()
    }


def audio_sample(number: int, seconds: float, chance: np.random.Generator) -> Sample:
    """Noise with the spectrum's tilt and the syllables of speech, as FLAC."""
    rate = RATES[number // CLIPS_PER_SHARD % len(RATES)]
    count = int(seconds * rate)
    spectrum = np.fft.rfft(chance.standard_normal(count))
    tilted = np.fft.irfft(
        spectrum / np.maximum(1, np.arange(len(spectrum)) * 2 / count * 40), count
    )
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * np.arange(count) / rate)
    wave = 0.3 * tilted / np.abs(tilted).max() * envelope
    data = io.BytesIO()
    soundfile.write(data, wave, rate, format="FLAC", subtype="PCM_16")
    return {"flac": data.getvalue()}


def voiced_sample(number: int, seconds: float, chance: np.random.Generator) -> Sample:
    """Sound with content at 50 Hz and a style of the widths of Whisper small and CAMPPlus."""
    content = chance.standard_normal((768, max(1, int(50 * seconds))), dtype=np.float32)
    style = chance.standard_normal(192, dtype=np.float32)
    return {
        **audio_sample(number, seconds, chance),
        "content.npy": content.astype(np.float16),
        "style.npy": style,
    }


SAMPLES = {"tokens": token_sample, "audio": audio_sample, "voiced": voiced_sample}


def write_corpus(out: Path, kind: str, clips: int, seed: int = 0) -> None:
    """Tar shards with their index."""
    out.mkdir(parents=True, exist_ok=True)
    seconds = lengths(clips, seed)
    chance = np.random.default_rng([seed, 1])
    rows, facts = [], []
    for start in range(0, clips, CLIPS_PER_SHARD):
        name = f"shard-{start // CLIPS_PER_SHARD:06d}.tar"
        numbers = range(start, min(clips, start + CLIPS_PER_SHARD))
        samples = {f"c{n:08d}": SAMPLES[kind](n, float(seconds[n]), chance) for n in numbers}
        with webdataset.TarWriter(str(out / name), mtime=0) as tar:
            for number, (key, sample) in zip(numbers, samples.items(), strict=True):
                about = {"seconds": round(float(seconds[number]), 4), "text": "some words " * 5}
                tar.write({"__key__": key, **sample, "json": json.dumps(about).encode()})
        scanned = scan_shard(out, name)
        rows += scanned.rows
        facts.append(scanned.shard)
    write_index(out, rows, facts, {})


def write_large_index(out: Path, small: Path, clips: int, seed: int = 0) -> None:
    """An index of ``clips`` rows over links to the shards of a small token corpus.

    The rows' members are those of real clips, so that micro-batches can be read; lengths are drawn
    anew, in the proportions of the buckets.
    """
    from shards.index import Index

    out.mkdir(parents=True, exist_ok=True)
    real = Index.open(small)
    per_shard = np.diff(real.shard_starts)
    shards = -(-clips // int(per_shard.mean()))
    originals = np.arange(shards) % len(per_shard)
    names = [f"shard-{n:07d}.tar" for n in range(shards)]
    table = real.shards.to_pylist()
    for name, original in zip(names, originals.tolist(), strict=True):
        (out / name).unlink(missing_ok=True)
        (out / name).symlink_to((small / table[original]["name"]).resolve())
    row = np.concatenate([np.arange(*real.shard_starts[o : o + 2]) for o in originals.tolist()])
    counts = per_shard[originals]
    members = real.members
    places = (members.starts.view[row][:, None] + np.arange(1, 3)).ravel()  # the arrays, after json
    listed = pa.ListArray.from_arrays(
        pa.array(np.arange(len(row) + 1, dtype=np.int32) * 2),
        pa.StructArray.from_arrays(
            [
                pa.DictionaryArray.from_arrays(members.name.view[places], list(members.names)),
                members.offset.view[places],
                members.size.view[places],
                members.checksum.view[places],
            ],
            fields=list(MEMBER),
        ),
    )
    width = len(str(len(row)))
    digits = np.empty((len(row), width), dtype=np.uint8)
    for place in range(width):
        digits[:, place] = np.arange(len(row)) // 10 ** (width - 1 - place) % 10 + ord("0")
    starts = np.arange(len(row) + 1, dtype=np.int64) * width
    keys = pa.LargeStringArray.from_buffers(len(row), pa.py_buffer(starts), pa.py_buffer(digits))
    shard = np.repeat(np.arange(shards, dtype=np.int32), counts)
    jitter = np.random.default_rng(seed).uniform(0.99, 1, len(row)).astype(np.float32)
    columns = {
        "key": keys,
        "shard": pa.DictionaryArray.from_arrays(shard, pa.array(names)).cast(NAMES),
        "members": listed,
        "offset": real.numbers("offset")[row],
        "size": real.numbers("size")[row],
        "seconds": real.seconds[row] * jitter,
        **{name: real.lengths(name)[row] for name in TOKENS_PER_SECOND},
    }
    facts = [
        ShardFacts(name, int(count), table[original]["bytes"], table[original]["checksum"])
        for name, count, original in zip(names, counts, originals.tolist(), strict=True)
    ]
    about = {"lengths": list(TOKENS_PER_SECOND), "largest": real.about["largest"], "digest": "-"}
    write_columns(out, pa.table(columns), facts, about)


def main() -> None:
    """Write one corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kind", choices=SAMPLES, required=True)
    parser.add_argument("--clips", type=int, required=True)
    given = parser.parse_args()
    write_corpus(given.out, given.kind, given.clips)


if __name__ == "__main__":
    main()
