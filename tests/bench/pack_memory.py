"""Peak memory of packing for more and more clips, each half a second of one recording.

python tests/bench/pack_memory.py build/bench --clips 20000 200000
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile

RATE, CLIP_SECONDS, SECONDS = 16_000, 0.5, 300.0


def write_manifest(folder: Path, clips: int) -> Path:
    """A manifest of ``clips`` spans of one file."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(0)
    times = np.arange(round(SECONDS * RATE)) / RATE
    sound = 0.1 * chance.standard_normal(len(times)) * (0.1 + np.abs(np.sin(3 * times)))
    soundfile.write(folder / "sound.wav", sound, RATE)
    path = folder / f"{clips}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(clips):
            offset = round(number * (SECONDS - CLIP_SECONDS) / clips, 4)
            line = {
                "audio_filepath": "sound.wav",
                "offset": offset,
                "duration": CLIP_SECONDS,
                "speaker": f"s{number % 97}",
                "text": f"clip {number}",
            }
            file.write(json.dumps(line) + "\n")
    return path


def process_tree(root: int) -> list[int]:
    """``root`` and all processes below it."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(status.parent.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def own_bytes(pid: int) -> int:
    """Memory of a process that is not a cache of files."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    kilobytes = [line.split()[1] for line in lines if line.startswith("RssAnon")]
    return int(kilobytes[0]) * 1024 if kilobytes else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, nargs="+", default=[20_000, 200_000])
    given = parser.parse_args()
    print(f"{'clips':>9} {'seconds':>8} {'main MiB':>9} {'worker MiB':>11}")
    for clips in given.clips:
        source = write_manifest(given.folder / "spans", clips)
        out = given.folder / "packed-spans"
        shutil.rmtree(out, ignore_errors=True)
        start, peaks = time.monotonic(), {"main": 0, "worker": 0}
        command = [sys.executable, "-m", "shards", "pack", str(source), str(out)]
        job = subprocess.Popen(
            [*command, "--workers", "2", "audio.store=flac"], stdout=subprocess.DEVNULL
        )
        while job.poll() is None:
            main_process, *workers = process_tree(job.pid)
            peaks["main"] = max(peaks["main"], own_bytes(main_process))
            peaks["worker"] = max([peaks["worker"], *map(own_bytes, workers)])
            time.sleep(0.1)
        seconds = time.monotonic() - start
        mebibytes = [f"{peak / 2**20:>9.0f}" for peak in peaks.values()]
        print(f"{clips:>9} {seconds:>8.0f} {'  '.join(mebibytes)}", flush=True)


if __name__ == "__main__":
    main()
