"""Clips into one padded batch of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from shards.corpus import Rows
from shards.decode import Padded, Ragged
from shards.fields import Field
from shards.plan import MicroBatch
from shards.reading import Clips, Failure, listed
from shards.room import COPIED_BYTES, room

Sample = dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """A padded micro-batch.

    ``arrays[name]`` is [clips, ..., longest] and ``lengths[name]`` int64 [clips] for every field
    that at least one clip has. ``rows`` are the corpus rows of the clips that count: none where
    ``weight`` is 0, for a stand-in. ``failures`` are planned clips that could not be read.
    """

    step: int
    index: int
    keys: tuple[str, ...]
    rows: Rows
    arrays: Mapping[str, torch.Tensor]
    lengths: Mapping[str, torch.Tensor]
    failures: tuple[Failure, ...] = ()

    @property
    def weight(self) -> float:
        """1, or 0 for a stand-in that must not count."""
        return 1.0 if len(self.rows) else 0.0

    def to(self, device: torch.device) -> Batch:
        """The batch on ``device``; the copy overlaps computation where memory is pinned."""
        return self.mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory (the DataLoader calls this)."""
        return self.mapped(torch.Tensor.pin_memory)

    def tensors(self) -> Iterator[torch.Tensor]:
        """Every tensor of the batch."""
        yield from self.arrays.values()
        yield from self.lengths.values()

    def __reduce__(self) -> tuple[Any, ...]:
        # A tensor between processes costs a file and a descriptor; a small array is cheaper copied.
        packed = self.mapped(lambda t: t.numpy() if t.nbytes <= COPIED_BYTES else t)
        return _unpacked, tuple(getattr(packed, field.name) for field in fields(packed))

    def mapped(self, change: Callable[[torch.Tensor], Any]) -> Batch:
        """The batch with ``change`` of each of its tensors in their place."""
        return replace(
            self,
            arrays={name: change(tensor) for name, tensor in self.arrays.items()},
            lengths={name: change(tensor) for name, tensor in self.lengths.items()},
        )


def _unpacked(*values: Any) -> Batch:
    return Batch(*values).mapped(torch.as_tensor)


@dataclass(frozen=True, eq=False)
class Intake:
    """A micro-batch on its way through the pipeline; a stand-in's clips are not ``counted``."""

    micro: MicroBatch
    counted: bool
    clips: Clips


def expand(intakes: Iterable[Intake]) -> Iterator[Sample]:
    """A webdataset stage: the clips of micro-batches as samples, one by one."""
    for intake in intakes:
        clips = intake.clips
        columns = {name: listed(column) for name, column in clips.members.items()}
        for number, key in enumerate(clips.keys):
            present = {name: column[number] for name, column in columns.items()}
            yield {
                "__key__": key,
                "__url__": clips.shards[number],
                "__row__": clips.rows[number],
                "__intake__": intake,
                **{name: value for name, value in present.items() if value is not None},
            }


def regroup(samples: Iterable[Sample]) -> Iterator[Intake]:
    """A webdataset stage: samples into the micro-batches that they came from."""
    for _, group in groupby(samples, key=lambda sample: id(sample["__intake__"])):
        together = list(group)
        before: Intake = together[0]["__intake__"]
        clips = replace(
            before.clips,
            keys=[sample["__key__"] for sample in together],
            rows=[sample["__row__"] for sample in together],
            shards=[sample["__url__"] for sample in together],
            members={
                name: [sample.get(name) for sample in together] for name in before.clips.members
            },
        )
        yield replace(before, clips=clips)


class Collate:
    """A webdataset stage: the clips of each micro-batch into one `Batch`."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = tuple(fields)

    def __call__(self, intakes: Iterable[Intake]) -> Iterator[Batch]:
        return map(self.batch, intakes)

    def batch(self, intake: Intake) -> Batch:
        """Pad the clips into one batch; a field that no clip has is left out."""
        clips, arrays, lengths = intake.clips, {}, {}
        for field in self.fields:
            column = clips.members[field.member]
            if isinstance(column, Padded) and (field.dtype, field.pad) == ("float32", 0):
                arrays[field.name] = column.array
                lengths[field.name] = torch.from_numpy(column.lengths)
            elif isinstance(column, Ragged):
                arrays[field.name], lengths[field.name] = pad_ragged(column, field)
            elif any(array is not None for array in listed(column)):
                arrays[field.name], lengths[field.name] = pad(listed(column), field)
        return Batch(
            step=intake.micro.step,
            index=intake.micro.index,
            keys=tuple(clips.keys) if intake.counted else (),
            rows=np.array(clips.rows if intake.counted else [], dtype=np.int64),
            arrays=arrays,
            lengths=lengths,
            failures=tuple(clips.failures),
        )


def pad_ragged(column: Ragged, field: Field) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-pad arrays [length] that lie end to end."""
    lengths, flat, start = column.lengths.tolist(), column.flat, 0
    padded = room((len(lengths), max(lengths)), field.dtype)
    for line, length in zip(padded.numpy(), lengths, strict=True):
        line[:length] = flat[start : start + length]
        line[length:] = field.pad
        start += length
    return padded, torch.from_numpy(column.lengths)


def pad(
    columns: Sequence[npt.NDArray[Any] | None], field: Field
) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-pad arrays [..., length] along the last axis; None counts as length 0."""
    present = next(column for column in columns if column is not None)
    lengths = [0 if column is None else column.shape[-1] for column in columns]
    shape = (len(columns), *present.shape[:-1], max(lengths))
    padded = room(shape, field.dtype)
    for line, length, column in zip(padded.numpy(), lengths, columns, strict=True):
        if column is not None:
            line[..., :length] = column
        line[..., length:] = field.pad
    return padded, torch.from_numpy(np.array(lengths))
