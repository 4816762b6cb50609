"""litdata's optimised chunks, in batches of a fixed count.

python tests/bench/peers/litdata_chunks.py prepare SHARDS WORK --kind tokens
python tests/bench/peers/litdata_chunks.py run WORK --kind tokens --epochs 3 --workers 2
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from litdata import StreamingDataLoader, StreamingDataset, optimize
from padding import Batch, Collate
from reading import read_tar, tars
from report import Job, Peer, command_line


def samples(tar: str, kind: str) -> Iterator[dict[str, bytes]]:
    """One shard's clips as bytes: they load a little faster than NumPy or tensor leaves."""
    for clip in read_tar(Path(tar)):
        yield clip.raw(kind)


def prepare(shards: Path, job: Job) -> None:
    """Write chunks of the default size."""
    optimize(
        fn=partial(samples, kind=job.kind),
        inputs=[str(tar) for tar in tars(shards)],
        output_dir=str(job.folder / "chunks"),
        num_workers=2,
        chunk_bytes="64MB",
    )


def deliver(job: Job) -> Iterator[Batch]:
    """Epoch after epoch with the same workers."""
    dataset = StreamingDataset(
        str(job.folder / "chunks"),  # a local folder is mapped in place, without a cached copy
        shuffle=True,
        drop_last=False,
        seed=0,
        # Clip by clip: windows are decoded again and again where two workers share a chunk.
        batch_decode=0,
    )
    loader = StreamingDataLoader(
        dataset,
        batch_size=job.count,
        num_workers=job.workers,
        persistent_workers=job.workers > 0,
        collate_fn=Collate(job.kind, job.corpus.dtypes),
    )
    for _ in range(job.epochs):
        yield from loader


if __name__ == "__main__":
    command_line(Peer("litdata", "litdata", prepare, deliver), __doc__)
