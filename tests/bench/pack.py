"""Packing against a bare loop over the same files: decode, resample, encode FLAC.

    python tests/bench/pack.py build/bench [--clips 400] [--copies 24]

Both run on one core and on all; the ratio is of audio-hours per core-hour. Packing also measures
quality, hashes, checks, sorts into shards and writes an index.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr

from shards.audio import EXTENSIONS
from shards.demo import speak_corpus
from shards.pack.config import AudioConfig, PackConfig
from shards.pack.job import pack
from shards.processes import keep_freed_memory

STORED_RATE, TARGET_RATE = 44_100, 24_000


def corpus(folder: Path, clips: int, copies: int) -> Path:
    """Speech as FLAC files of 44.1 kHz; copies differ in their last bits."""
    out = folder / f"pack-{clips}x{copies}"
    if (out / "done").is_file():
        return out
    speech = folder / f"speech-{clips}"
    speak_corpus(speech, clips=clips, workers=os.cpu_count() or 1)
    chance = np.random.default_rng(0)
    for path in sorted(speech.rglob("*.*")):
        if path.suffix not in EXTENSIONS:
            continue
        samples, rate = soundfile.read(path, dtype="float32")
        wide = soxr.resample(samples, rate, STORED_RATE)
        for copy in range(copies):
            noise = chance.normal(0, 1e-3, len(wide)).astype(np.float32)
            place = out / f"speaker{copy}" / f"{path.stem}.flac"
            place.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(place, np.clip(wide + noise, -1, 1), STORED_RATE)
    (out / "done").touch()
    return out


def bare(path: Path) -> float:
    """Seconds of audio of one file, decoded, resampled and encoded."""
    samples, rate = soundfile.read(path, dtype="float32")
    file = io.BytesIO()
    resampled = soxr.resample(samples, rate, TARGET_RATE)
    soundfile.write(file, resampled, TARGET_RATE, format="FLAC", subtype="PCM_16")
    return len(samples) / rate


def bare_loop(files: list[Path], processes: int) -> None:
    with multiprocessing.get_context("spawn").Pool(processes, keep_freed_memory) as pool:
        for _ in pool.imap_unordered(bare, files, chunksize=16):
            pass


def packed(files: Path, out: Path, processes: int) -> None:
    shutil.rmtree(out, ignore_errors=True)
    config = PackConfig(audio=AudioConfig(store="flac", sample_rate=TARGET_RATE))
    pack(files, out, config, kind="folder", workers=processes)


def hours_per_core_hour(hours: float, processes: int, work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return hours * 3600 / (time.perf_counter() - start) / processes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--copies", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    files = corpus(given.folder, given.clips, given.copies)
    listed = sorted(files.rglob("*.flac"))
    hours = sum(soundfile.info(path).duration for path in listed) / 3600
    print(f"{len(listed)} files, {hours:.2f} h, {STORED_RATE} to {TARGET_RATE} Hz")
    print(f"{'processes':>9} {'bare loop':>10} {'segue':>10} {'ratio':>6}  audio-h per core-h")
    for processes in sorted({1, os.cpu_count() or 1}):
        ratios = []
        for _ in range(given.rounds):
            loop = hours_per_core_hour(hours, processes, lambda n=processes: bare_loop(listed, n))
            ours = hours_per_core_hour(
                hours, processes, lambda n=processes: packed(files, given.folder / "packed", n)
            )
            ratios.append(ours / loop)
            print(f"{processes:>9} {loop:>10.0f} {ours:>10.0f} {ratios[-1]:>6.2f}")
        print(f"{processes:>9} {'median':>21} {statistics.median(ratios):>6.2f}")


if __name__ == "__main__":
    main()
