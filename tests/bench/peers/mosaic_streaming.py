"""mosaicml-streaming's MDS shards, in batches of a fixed count.

python tests/bench/peers/mosaic_streaming.py prepare SHARDS WORK --kind tokens
python tests/bench/peers/mosaic_streaming.py run WORK --kind tokens --epochs 3 --workers 2
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch
from padding import Batch, Collate
from reading import TOKENS, read_clips
from report import Job, Peer, command_line
from torch.utils.data import DataLoader

# "local" reads the same shards as a map-style dataset: faster on a local disk, but with neither
# streaming's resumption nor its download of shards.
VARIANTS = ("stream", "local")
OPERATORS = torch.library.Library("torchvision", "FRAGMENT")


def import_streaming() -> ModuleType:
    """The peer, which imports torchvision: name the operators that a CUDA build lacks on a CPU."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in ("nms", "qnms"):
            OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import streaming

    return streaming


streaming = import_streaming()


def prepare(shards: Path, job: Job) -> None:
    """Write shards of the default size; bytes load faster than an ndarray column."""
    columns = dict.fromkeys(("audio",) if job.kind == "audio" else TOKENS, "bytes")
    with streaming.MDSWriter(out=str(job.folder / "mds"), columns=columns) as writer:
        for clip in read_clips(shards):
            writer.write(clip.raw(job.kind))


def stream_loader(job: Job) -> DataLoader[Batch]:
    """Streaming's own dataset and loader."""
    dataset = streaming.StreamingDataset(
        local=str(job.folder / "mds"),
        shuffle=True,
        shuffle_seed=0,
        batch_size=job.count,
        # All clips: nothing is downloaded, and the default makes its threads wait on each other.
        predownload=job.corpus.clips,
    )
    loader: DataLoader[Batch] = streaming.StreamingDataLoader(
        dataset,
        batch_size=job.count,
        num_workers=job.workers,
        persistent_workers=job.workers > 0,
        collate_fn=Collate(job.kind, job.corpus.dtypes),
    )
    return loader


def local_loader(job: Job) -> DataLoader[Batch]:
    """Random access to the shards under PyTorch's own shuffle."""
    return DataLoader(
        streaming.LocalDataset(local=str(job.folder / "mds")),
        batch_size=job.count,
        shuffle=True,
        num_workers=job.workers,
        persistent_workers=job.workers > 0,
        collate_fn=Collate(job.kind, job.corpus.dtypes),
    )


def deliver(job: Job) -> Iterator[Batch]:
    """Epoch after epoch with the same workers."""
    loader = stream_loader(job) if job.variant == "stream" else local_loader(job)
    for _ in range(job.epochs):
        yield from loader


if __name__ == "__main__":
    peer = Peer("mosaicml streaming", "mosaicml-streaming", prepare, deliver, VARIANTS)
    command_line(peer, __doc__)
