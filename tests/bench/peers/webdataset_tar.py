"""Plain webdataset: shuffled, decoded, batches of a fixed count.

Runs in Segue's environment, not in the peers'.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import webdataset
from padding import Batch, decode, pad_audio, pad_tokens
from report import Job, Peer, command_line
from torch.utils.data import DataLoader


def prepare(shards: Path, job: Job) -> None:
    """The same tar shards."""
    (job.folder / "shards").symlink_to(shards.resolve())


def collate(clips: list[dict[str, Any]]) -> Batch:
    """Pad what decoding gave."""
    if "flac" in clips[0]:
        return pad_audio([clip["flac"] for clip in clips])
    return pad_tokens(
        [{name: clip[f"{name}.npy"] for name in ("phonemes", "semantic")} for clip in clips]
    )


def deliver(job: Job) -> Iterator[Batch]:
    """Shards in random order, a shuffle buffer of 1000 clips, webdataset's own decoder."""
    shards = sorted(str(path) for path in (job.folder / "shards").glob("*.tar"))
    # webdataset decodes FLAC by torchaudio, which needs a codec package; libsndfile for all.
    decoders = [webdataset.handle_extension("flac", decode)] if job.kind == "audio" else []
    stages = webdataset.WebDataset(shards, shardshuffle=100).shuffle(1000).decode(*decoders)
    batched = stages.batched(job.count, collation_fn=collate)
    for _ in range(job.epochs):
        yield from DataLoader(batched, batch_size=None, num_workers=job.workers)


if __name__ == "__main__":
    command_line(Peer("webdataset", "webdataset", prepare, deliver), __doc__)
