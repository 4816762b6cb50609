"""Clips into one padded batch of tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from shards.fields import Field
from shards.plan import MicroBatch

Sample = Mapping[str, Any]


@dataclass(frozen=True)
class Batch:
    """A padded micro-batch.

    ``arrays[name]`` is [clips, ..., longest] and ``lengths[name]`` int64 [clips] for every field
    that at least one clip has. ``weight`` is 1, or 0 for a stand-in that must not count.
    """

    step: int
    index: int
    keys: tuple[str, ...]
    arrays: Mapping[str, torch.Tensor]
    lengths: Mapping[str, torch.Tensor]
    weight: float

    def to(self, device: torch.device) -> Batch:
        """The batch on ``device``; the copy overlaps computation where memory is pinned."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory (the DataLoader calls this)."""
        return self._mapped(torch.Tensor.pin_memory)

    def _mapped(self, change: Any) -> Batch:
        return replace(
            self,
            arrays={name: change(tensor) for name, tensor in self.arrays.items()},
            lengths={name: change(tensor) for name, tensor in self.lengths.items()},
        )


class Collate:
    """A webdataset stage: decoded clips in plan order into one `Batch` per micro-batch."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = tuple(fields)

    def __call__(self, samples: Iterable[Sample]) -> Iterator[Batch]:
        for micro, clips in groupby(samples, key=lambda sample: sample["__micro__"]):
            yield self.batch(micro, list(clips))

    def batch(self, micro: MicroBatch, clips: Sequence[Sample]) -> Batch:
        """Pad ``clips`` into one batch; a field that no clip has is left out."""
        arrays, lengths = {}, {}
        for field in self.fields:
            columns = [clip.get(field.member) for clip in clips]
            if any(column is not None for column in columns):
                arrays[field.name], lengths[field.name] = pad(columns, field)
        return Batch(
            step=micro.step,
            index=micro.index,
            keys=tuple(str(clip["__key__"]) for clip in clips),
            arrays=arrays,
            lengths=lengths,
            weight=1.0 if micro.counted else 0.0,
        )


def pad(
    columns: Sequence[npt.NDArray[Any] | None], field: Field
) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-pad arrays [..., length] along the last axis; None counts as length 0."""
    present = next(column for column in columns if column is not None)
    lengths = [0 if column is None else column.shape[-1] for column in columns]
    shape = (len(columns), *present.shape[:-1], max(lengths))
    padded = np.full(shape, field.pad, dtype=field.dtype)
    for row, column in enumerate(columns):
        if column is not None:
            padded[row, ..., : column.shape[-1]] = column
    return torch.from_numpy(padded), torch.tensor(lengths)
