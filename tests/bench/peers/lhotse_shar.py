"""Lhotse Shar with dynamic length buckets.

python tests/bench/peers/lhotse_shar.py prepare SHARDS WORK --kind tokens
python tests/bench/peers/lhotse_shar.py run WORK --kind tokens --epochs 3 --workers 2
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from lhotse import CutSet, MonoCut, Recording
from lhotse.array import Array
from lhotse.dataset import DynamicBucketingSampler, IterableDatasetWrapper
from lhotse.dataset.sampling.dynamic_bucketing import estimate_duration_buckets
from lhotse.shar import SharWriter
from padding import Batch, pad_audio, pad_tokens
from reading import TOKENS, Clip, read_clips
from report import Job, Peer, command_line
from torch.utils.data import DataLoader, Dataset

BUCKETS = 30
# Tokens in the cuts' own manifest load several times faster than from a tar of arrays per field,
# where each array costs two tar members and a manifest; the latter is the "numpy" variant.
VARIANTS = ("manifest", "numpy")


def array_manifest(clip: Clip, field: str) -> Array:
    """Lhotse's description of a token array that is in memory."""
    shape = list(clip.array(field).shape)
    return Array("memory_npy", "", clip.members[f"{field}.npy"], shape)


def cut(clip: Clip, job: Job) -> MonoCut:
    """A cut with the data and no supervisions: a longer manifest would only cost Lhotse time."""
    if job.kind == "audio":
        recorded: MonoCut = Recording.from_bytes(clip.flac, clip.key).to_cut()
        recorded.id = clip.key
        return recorded
    if job.variant == "numpy":
        custom = {field: array_manifest(clip, field) for field in TOKENS}
    else:
        custom = {field: clip.array(field).tolist() for field in TOKENS}
    return MonoCut(clip.key, start=0, duration=clip.seconds, channel=0, custom=custom)


def fields(job: Job) -> dict[str, str]:
    """What goes to tars beside the manifest, and how it is stored."""
    if job.kind == "audio":
        return {"recording": "flac"}
    return dict.fromkeys(TOKENS, "numpy") if job.variant == "numpy" else {}


def prepare(shards: Path, job: Job) -> None:
    """Write Shar with as many clips per shard as the tars have, and the buckets' bounds."""
    size = -(-job.corpus.clips // job.corpus.shards)
    folder = job.folder / "shar"
    folder.mkdir()
    durations = []
    with SharWriter(str(folder), fields=fields(job), shard_size=size) as writer:
        for clip in read_clips(shards):
            now = cut(clip, job)
            writer.write(now)
            durations.append(MonoCut(clip.key, start=0, duration=now.duration, channel=0))
    bins = estimate_duration_buckets(durations, num_buckets=BUCKETS)
    (job.folder / "bins.json").write_text(json.dumps(bins), encoding="utf-8")


class Padded(Dataset[Batch]):
    """Turns the cuts of one batch into padded tensors."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __getitem__(self, cuts: CutSet) -> Batch:
        if self.job.kind == "audio":
            return pad_audio([one.load_audio()[0] for one in cuts])
        if self.job.variant == "numpy":
            return pad_tokens([{name: one.load_custom(name) for name in TOKENS} for one in cuts])
        return pad_tokens([one.custom for one in cuts])


def deliver(job: Job) -> Iterator[Batch]:
    """One pass over the repeated corpus: buckets stay full between epochs, workers start once."""
    cuts = CutSet.from_shar(
        in_dir=job.folder / "shar", split_for_dataloading=True, shuffle_shards=True, seed=0
    ).repeat(times=job.epochs, preserve_id=True)
    sampler = DynamicBucketingSampler(
        cuts,
        max_duration=job.micro_seconds,  # bounds the longest clip times the count
        # Given, not estimated: the sampler would read 10,000 clips to place the same bounds.
        duration_bins=json.loads((job.folder / "bins.json").read_text(encoding="utf-8")),
        shuffle=True,
        seed=0,
        world_size=1,  # each worker has a sampler of its own, over its own shards
        rank=0,
    )
    dataset = IterableDatasetWrapper(Padded(job), sampler)
    yield from DataLoader(dataset, batch_size=None, num_workers=job.workers)


if __name__ == "__main__":
    command_line(Peer("lhotse shar", "lhotse", prepare, deliver, VARIANTS), __doc__)
