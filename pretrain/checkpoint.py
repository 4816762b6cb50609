"""Checkpoints: fragments by parameter name, committed or absent, restored on any world size.

A checkpoint is a folder ``epoch_EEEEE_step_SSSSSSSS`` with one safetensors file per rank, a
manifest (what is where, sizes and checksums) and a marker that is written last. The marker holds
the manifest's checksum: without a marker that fits, the checkpoint does not exist.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import xxhash
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from pretrain.engine import Fragment
from shards.checksum import measured
from shards.errors import UserError
from shards.plan import Origin

MANIFEST = "manifest.json"
MARKER = "COMMITTED"
UNFINISHED = ".unfinished"
FORMAT = 1
_NAME = re.compile(r"epoch_(\d+)_step_(\d+)")


class Piece(BaseModel):
    """Where a run of one parameter lies: ``count`` numbers from ``start``, in ``file``."""

    model_config = ConfigDict(frozen=True)

    start: int
    count: int
    file: str


class FileSum(BaseModel):
    """A file's size in bytes and its XXH3-64."""

    model_config = ConfigDict(frozen=True)

    bytes: int
    xxh3: str


class Manifest(BaseModel):
    """All that a checkpoint says of itself."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    step: int
    epoch: float
    updates: int
    fingerprint: dict[str, Any]
    origin: Origin = Origin()
    world_size: int
    versions: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    pieces: dict[str, list[Piece]]
    files: dict[str, FileSum]


@dataclass(frozen=True)
class State:
    """What a checkpoint records beside the tensors."""

    step: int
    epoch: float
    updates: int
    fingerprint: Mapping[str, Any]
    origin: Origin
    shapes: Mapping[str, tuple[int, ...]]
    versions: Mapping[str, str]


class Ranks(Protocol):
    """What saving needs of the process group."""

    @property
    def rank(self) -> int: ...
    @property
    def world_size(self) -> int: ...
    def gather(self, value: Any) -> list[Any]: ...
    def barrier(self) -> None: ...


def folder_name(step: int, epoch: float) -> str:
    """The folder of a checkpoint taken after ``step`` optimizer steps, in epoch ``epoch``."""
    return f"epoch_{int(epoch):05d}_step_{step:08d}"


def step_of(folder: Path) -> int:
    """The step in a checkpoint folder's name."""
    match = _NAME.fullmatch(folder.name)
    if match is None:
        raise ValueError(f"{folder} is not named like a checkpoint")
    return int(match[2])


def save(root: Path, fragments: Iterable[Fragment], state: State, ranks: Ranks) -> Path:
    """Write and commit a checkpoint under ``root``; every rank calls it together."""
    final = root / folder_name(state.step, state.epoch)
    aside = root / f"{final.name}{UNFINISHED}"
    if ranks.rank == 0:
        for leftover in (aside, final):
            shutil.rmtree(leftover, ignore_errors=True)
        aside.mkdir(parents=True)
    ranks.barrier()
    written = _write_rank_file(aside, fragments, ranks)
    everything = ranks.gather(written)
    if ranks.rank == 0:
        _commit(aside, final, _manifest(state, everything, ranks.world_size))
    ranks.barrier()
    return final


_Written = tuple[str, FileSum, list[tuple[str, int, int]]]


def _write_rank_file(folder: Path, fragments: Iterable[Fragment], ranks: Ranks) -> _Written:
    name = f"rank_{ranks.rank:05d}_of_{ranks.world_size:05d}.safetensors"
    tensors: dict[str, Tensor] = {}
    places: list[tuple[str, int, int]] = []
    for fragment in fragments:
        places.append((fragment.name, fragment.start, fragment.size))
        for key, values in fragment.states.items():
            tensors[_tensor_name(key, fragment.name, fragment.start)] = values.to("cpu", copy=True)
    content = to_safetensors(tensors)
    total = FileSum(bytes=len(content), xxh3=xxhash.xxh3_64(content).hexdigest())
    _write_durably(folder / name, content)
    if _sum(folder / name) != total:
        raise OSError(f"{folder / name} does not read back as it was written")
    return name, total, places


def _tensor_name(state: str, parameter: str, start: int) -> str:
    return f"{state}/{parameter}/{start}"


def _manifest(state: State, written: Sequence[_Written], world_size: int) -> Manifest:
    pieces: dict[str, list[Piece]] = defaultdict(list)
    for file, _, places in written:
        for name, start, count in places:
            pieces[name].append(Piece(start=start, count=count, file=file))
    _refuse_gaps(state.shapes, pieces)
    return Manifest(
        step=state.step,
        epoch=state.epoch,
        updates=state.updates,
        fingerprint=dict(state.fingerprint),
        origin=state.origin,
        world_size=world_size,
        versions=dict(state.versions),
        shapes=dict(state.shapes),
        pieces=pieces,
        files={file: total for file, total, _ in written},
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


def _commit(aside: Path, final: Path, manifest: Manifest) -> None:
    text = manifest.model_dump_json(indent=1).encode()
    _write_durably(aside / MANIFEST, text)
    _flush(aside)
    os.rename(aside, final)
    _flush(final.parent)
    _write_durably(final / f".{MARKER}", xxhash.xxh3_64(text).hexdigest().encode())
    os.rename(final / f".{MARKER}", final / MARKER)
    _flush(final)


def _write_durably(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    _flush(path)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sum(path: Path) -> FileSum:
    size, checksum = measured(path)
    return FileSum(bytes=size, xxh3=f"{checksum:016x}")


def prune(root: Path, keep_last: int) -> None:
    """Remove what is older than the newest ``keep_last`` valid ones, and unfinished saves."""
    for leftover in root.glob(f"*{UNFINISHED}"):
        shutil.rmtree(leftover, ignore_errors=True)
    kept = 0
    for folder in newest_first(root):
        if kept >= keep_last:
            # Without its marker it no longer exists, whatever happens during the removal.
            (folder / MARKER).unlink(missing_ok=True)
            shutil.rmtree(folder)
        elif _is_committed(folder):
            kept += 1


def _is_committed(folder: Path) -> bool:
    try:
        read_manifest(folder)
    except ValueError:
        return False
    return True


def newest_first(root: Path) -> Iterator[Path]:
    """Checkpoint folders under ``root`` by step, the newest first, whether valid or not."""
    found = [path for path in root.glob("epoch_*_step_*") if _NAME.fullmatch(path.name)]
    return iter(sorted(found, key=step_of, reverse=True))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a committed checkpoint; ValueError says what is wrong with it."""
    try:
        text = (folder / MANIFEST).read_bytes()
        marker = (folder / MARKER).read_text()
    except FileNotFoundError as error:
        raise ValueError(f"{Path(error.filename).name} is missing") from error
    except OSError as error:
        raise ValueError(f"it cannot be read: {error}") from error
    if marker != xxhash.xxh3_64(text).hexdigest():
        raise ValueError(f"{MANIFEST} is not the one that was committed")
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"{MANIFEST} cannot be read: {error.errors()[0]['msg']}") from error
    if manifest.format != FORMAT:
        raise ValueError(f"it has format {manifest.format}, this version reads {FORMAT}")
    return manifest


def verify(folder: Path) -> Manifest:
    """Read every byte against the manifest; ValueError names the first damaged file."""
    manifest = read_manifest(folder)
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{name} is missing")
        if path.stat().st_size != expected.bytes:
            raise ValueError(f"{name} has {path.stat().st_size} bytes, {expected.bytes} were saved")
        try:
            found = _sum(path)
        except OSError as error:
            raise ValueError(f"{name} cannot be read: {error}") from error
        if found != expected:
            raise ValueError(f"{name} has other bytes than were saved")
    return manifest


def newest_valid(root: Path, warn: Callable[[str], None]) -> tuple[Path, Manifest] | None:
    """The newest checkpoint that is whole; each damaged one before it is passed to ``warn``.

    None where nothing was ever committed. UserError where something was and none of it is whole:
    starting over would lose the run.
    """
    committed = None
    for folder in newest_first(root):
        try:
            return folder, verify(folder)
        except ValueError as damage:
            warn(f"checkpoint {folder} is damaged and skipped: {damage}")
            committed = committed or ((folder / MARKER).exists() and damage)
    if committed:
        raise UserError(
            f"{root}: no checkpoint is whole (the newest: {committed}); bring one back, choose "
            "another run.name, or remove the folder to start over"
        )
    return None


def restore(folder: Path, manifest: Manifest, fragments: Iterable[Fragment]) -> None:
    """Fill every fragment from the checkpoint, whichever ranks wrote the numbers."""
    files = _Files(folder)
    for fragment in fragments:
        _fill(fragment, manifest.pieces[fragment.name], files)


def refuse_other_shapes(
    folder: Path, manifest: Manifest, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """UserError naming the first parameter whose shape is not the checkpoint's."""
    for name in sorted({*shapes, *manifest.shapes}):
        ours, saved = shapes.get(name), manifest.shapes.get(name)
        if ours != saved:
            raise UserError(
                f"{folder}: parameter {name} is {saved or 'absent'} there and {ours or 'absent'} "
                "in this model; set model.* as in the run's config.yaml or choose another run.name"
            )


def _fill(fragment: Fragment, pieces: Sequence[Piece], files: _Files) -> None:
    end, filled = fragment.start + fragment.size, 0
    for piece in pieces:
        first, last = max(fragment.start, piece.start), min(end, piece.start + piece.count)
        if first >= last:
            continue
        for key, target in fragment.states.items():
            saved = files.read(piece, _tensor_name(key, fragment.name, piece.start), first, last)
            target[first - fragment.start : last - fragment.start].copy_(saved)
        filled += last - first
    if filled != fragment.size:
        raise ValueError(f"{fragment.name}: {filled} of {fragment.size} numbers are saved")


class _Files:
    """Open safetensors files of one checkpoint."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, Any] = {}

    def read(self, piece: Piece, name: str, first: int, last: int) -> Tensor:
        if piece.file not in self._open:
            self._open[piece.file] = safe_open(self._folder / piece.file, framework="pt")
        try:
            part = self._open[piece.file].get_slice(name)
        except SafetensorError as error:
            raise ValueError(f"{piece.file} has no {name}") from error
        values: Tensor = part[first - piece.start : last - piece.start]
        return values
