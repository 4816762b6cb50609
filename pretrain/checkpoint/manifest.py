"""What a checkpoint says of itself, and the names of its files.

A checkpoint is a folder ``epoch_EEEEE_step_SSSSSSSS`` with one safetensors file per rank, a
manifest (what is where, sizes and checksums) and a marker that is written last. The marker holds
the manifest's checksum: without a marker that fits, the checkpoint does not exist.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import xxhash
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from pretrain.health import Health
from pretrain.tally import Seen
from shards.errors import UserError
from shards.plan import Origin

MANIFEST = "manifest.json"
MARKER = "COMMITTED"
FORMAT = 2
MASTER, EMA = "master", "ema"
MOMENTS = ("exp_avg", "exp_avg_sq")
_NAME = re.compile(r"epoch_(\d+)_step_(\d+)")


class DamageError(ValueError):
    """What is wrong with a checkpoint."""


class Piece(BaseModel):
    """A run of one parameter: ``count`` numbers from ``start``, all of its states in ``file``.

    ``offsets`` says at which byte of the file each state's float32 numbers begin.
    """

    model_config = ConfigDict(frozen=True)

    start: int
    count: int
    file: str
    offsets: dict[str, int]


class FileSum(BaseModel):
    """A file's size in bytes and its XXH3-64."""

    model_config = ConfigDict(frozen=True)

    bytes: int
    xxh3: str


class State(BaseModel):
    """What a checkpoint records beside the tensors.

    ``target`` is the step at which the run was to end, ``updates`` what Adam's bias correction
    counts, ``starts`` are the steps at which the run was started, ``resume_points`` those from
    which its rate climbed back, ``figures`` what was measured until this step, of which losses are
    on the clips whose digest is ``held_out``, ``health`` what the next steps are held against,
    ``seen`` what was trained on, and ``init_from`` the exact place of the weights that the run
    began with. Random numbers are drawn anew for every micro-batch from the seed, the step and its
    place, so no rank has a state of them to keep.
    """

    model_config = ConfigDict(frozen=True)

    step: int
    epoch: float
    target: int = 0
    updates: int
    fingerprint: dict[str, Any]
    origin: Origin = Origin()
    starts: tuple[int, ...] = ()
    resume_points: tuple[int, ...] = ()
    figures: dict[str, float] = {}
    health: Health = Health()
    held_out: str = ""
    seen: Seen = Seen()
    init_from: str | None = None
    shapes: dict[str, tuple[int, ...]]
    config: dict[str, Any] = {}
    versions: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The folder's name."""
        return f"epoch_{int(self.epoch):05d}_step_{self.step:08d}"


class Manifest(BaseModel):
    """All that a checkpoint says of itself."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    state: State
    world_size: int
    pieces: dict[str, list[Piece]]
    files: dict[str, FileSum]

    @property
    def frozen(self) -> frozenset[str]:
        """The parameters that did not train: they have no moments."""
        return frozenset(
            name for name, pieces in self.pieces.items() if not {*MOMENTS} <= {*pieces[0].offsets}
        )


class RankPart(BaseModel):
    """What one rank wrote: a file and, for each parameter, the pieces that lie in it.

    ``failure`` says why it could not; then there is no file.
    """

    model_config = ConfigDict(frozen=True)

    failure: str = ""
    file: str
    total: FileSum
    pieces: tuple[tuple[str, Piece], ...]


def combined(state: State, parts: Sequence[RankPart]) -> Manifest:
    """The manifest of what all ranks wrote; RuntimeError if numbers are missing."""
    pieces: dict[str, list[Piece]] = defaultdict(list)
    for part in parts:
        for name, piece in part.pieces:
            pieces[name].append(piece)
    _refuse_gaps(state.shapes, pieces)
    return Manifest(
        state=state,
        world_size=len(parts),
        pieces=pieces,
        files={part.file: part.total for part in parts},
    )


def _refuse_gaps(
    shapes: Mapping[str, tuple[int, ...]], pieces: Mapping[str, Sequence[Piece]]
) -> None:
    for name, shape in shapes.items():
        position = 0
        for piece in sorted(pieces.get(name, ()), key=lambda piece: piece.start):
            if piece.start == position:
                position += piece.count
        if position != math.prod(shape):
            raise RuntimeError(f"ranks hold {position} of {math.prod(shape)} numbers of {name}")


def step_of(name: str) -> int:
    """The step in the name of a checkpoint."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name} is not the name of a checkpoint")
    return int(match[2])


def is_checkpoint(name: str) -> bool:
    """Whether a checkpoint can have this name."""
    return _NAME.fullmatch(name) is not None


def newest_first(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that checkpoints can have, by step."""
    return sorted(filter(is_checkpoint, names), key=step_of, reverse=True)


def mark_of(manifest: bytes) -> bytes:
    """The content of the marker that commits ``manifest``."""
    return xxhash.xxh3_64_hexdigest(manifest).encode()


def parsed(manifest: bytes, marker: bytes) -> Manifest:
    """A committed manifest; DamageError says what is wrong with it."""
    if marker != mark_of(manifest):
        raise DamageError(f"{MANIFEST} is not the one that was committed")
    try:
        told = from_json(manifest)
        written = told["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise DamageError(f"{MANIFEST} cannot be read") from error
    if written != FORMAT:
        raise DamageError(f"it has format {written}, this version reads {FORMAT}")
    try:
        return Manifest.model_validate(told)
    except ValidationError as error:
        raise DamageError(f"{MANIFEST} cannot be read: {error.errors()[0]['msg']}") from error


def refuse_other_shapes(
    place: str, manifest: Manifest, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """UserError naming the first parameter whose shape is not the checkpoint's."""
    there = manifest.state.shapes
    for name in sorted({*shapes, *there}):
        ours, saved = shapes.get(name), there.get(name)
        if ours != saved:
            raise UserError(
                f"{place}: parameter {name} is {saved or 'absent'} there and {ours or 'absent'} "
                "in this model; set model.* as in the run's config.yaml or choose another run.name"
            )
