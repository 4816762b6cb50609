"""The padding and fill of Lhotse's bucketing sampler on given durations, without any data.

python tests/bench/peers/padding_lhotse.py DURATIONS.json
with {"seconds": [..], "micro_seconds": 160, "seed": 0}
"""

from __future__ import annotations

import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

from lhotse import CutSet, MonoCut
from lhotse.dataset import DynamicBucketingSampler

BUCKETS = (30, 16)


def sample(
    seconds: list[float], micro_seconds: float, seed: int, buckets: int
) -> dict[str, float | int]:
    """One epoch's batches, summed up; fill is the longest clip times the count over the limit."""
    cuts = CutSet.from_cuts(
        MonoCut(f"{number}", start=0, duration=duration, channel=0)
        for number, duration in enumerate(seconds)
    )
    sampler = DynamicBucketingSampler(
        cuts, max_duration=micro_seconds, num_buckets=buckets, shuffle=True, seed=seed
    )
    batches = [[cut.duration for cut in batch] for batch in sampler]
    areas = [len(batch) * max(batch) for batch in batches]
    return {
        "clips": sum(map(len, batches)),
        "micro_batches": len(batches),
        "padding": round(1 - sum(map(sum, batches)) / sum(areas), 5),
        "fill": round(sum(areas) / len(areas) / micro_seconds, 5),
    }


def main(path: Path) -> None:
    """Print one JSON line."""
    warnings.filterwarnings("ignore", message="You are using DynamicBucketingSampler with an eager")
    given = json.loads(path.read_text(encoding="utf-8"))
    figures = {
        f"buckets_{buckets}": sample(
            given["seconds"], given["micro_seconds"], given["seed"], buckets
        )
        for buckets in BUCKETS
    }
    head = {"name": "lhotse DynamicBucketingSampler"}
    print(json.dumps(head | figures | {"version": version("lhotse")}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
