"""Fragments filled from a checkpoint, whichever ranks wrote the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pretrain.checkpoint.manifest import EMA, MARKER, MASTER, DamageError, FileSum, Manifest, Piece
from pretrain.checkpoint.rank_file import bytes_of
from pretrain.checkpoint.saver import Ranks
from pretrain.checkpoint.store import Range, Store, newest
from pretrain.fragment import Fragment

_Found = tuple[str, Manifest | DamageError]

_BYTES = 4
_BATCH = 1 << 26
"""Numbers that are read at once: 256 MiB."""


@dataclass(frozen=True)
class Resume:
    """The checkpoint to go on from, and the newer ones that are ``damaged``."""

    store: Store
    name: str
    manifest: Manifest
    damaged: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where it lies."""
        return self.store.place(self.name)


@dataclass
class Restored:
    """What could not be taken from the checkpoint as it is, by parameter."""

    new_moments: set[str] = field(default_factory=set)
    """They did not train before: their moments begin at zero."""
    new_averages: set[str] = field(default_factory=set)
    """They had no average before: it begins at the weights."""


def newest_valid(store: Store, ranks: Ranks, warn: Callable[[str], None]) -> Resume | None:
    """The newest checkpoint that is whole; each damaged one before it is passed to ``warn``.

    Every rank checks a share of the files, and all come to the same answer. None where nothing was
    ever committed. Where something was and none of it is whole, all ranks end with a UserError:
    starting over would lose the run; so they do where the place cannot be read.
    """
    committed: str | bool = False
    damaged: list[str] = []
    listed = newest(store) if ranks.rank == 0 else iter(())
    while (following := ranks.gather(_next(listed))[0]) is not None:
        if isinstance(following, str):
            ranks.fail(following)
        name, found = following
        damage = found if isinstance(found, DamageError) else _damage(store, name, found, ranks)
        if damage is None:
            return Resume(store, name, found, tuple(damaged))
        damaged.append(name)
        if ranks.rank == 0:
            warn(f"checkpoint {store.place(name)} is damaged and skipped: {damage}")
        committed = committed or (str(damage) != f"{MARKER} is missing" and str(damage))
    if committed:
        ranks.fail(
            f"{store.place('')}: no checkpoint is whole (the newest: {committed}); bring one back, "
            "choose another run.name, or remove the folder to start over"
        )
    return None


def verified(resume: Resume, ranks: Ranks) -> Resume:
    """``resume`` itself, all its files read; all ranks end with a UserError if one is damaged."""
    damage = _damage(resume.store, resume.name, resume.manifest, ranks)
    if damage is not None:
        ranks.fail(f"{resume.place} is damaged ({damage}); name another checkpoint")
    return resume


def _next(listed: Iterator[_Found]) -> _Found | str | None:
    """The next checkpoint, or why it cannot be told."""
    try:
        return next(listed, None)
    except OSError as error:
        return str(error)


def _damage(store: Store, name: str, manifest: Manifest, ranks: Ranks) -> DamageError | None:
    found = unread = None
    try:
        check_files(store, name, list(manifest.files.items())[ranks.rank :: ranks.world_size])
    except DamageError as damage:
        found = str(damage)
    except OSError as error:  # whether it is damaged is not known
        unread = str(error)
    told = ranks.gather((found, unread))
    for _, why in told:
        if why is not None:
            ranks.fail(why)
    damages = [one for one, _ in told if one is not None]
    return DamageError(damages[0]) if damages else None


def check_files(store: Store, name: str, files: Iterable[tuple[str, FileSum]]) -> None:
    """DamageError naming the first file that is not as it was written."""
    for file, expected in files:
        store.check(name, file, expected)


def restore(store: Store, name: str, manifest: Manifest, fragments: Iterable[Fragment]) -> Restored:
    """Fill every state of every fragment; what the checkpoint has no numbers for is told.

    Moments that it lacks become zero, averages the weights.
    """
    told = Restored()
    reads: list[Read] = []
    for fragment in fragments:
        pieces = manifest.pieces[fragment.name]
        saved = {key for piece in pieces for key in piece.offsets}
        for key, target in fragment.states.items():
            if key in saved:
                reads += _reads(pieces, fragment, key, target)
            elif key == EMA:
                told.new_averages.add(fragment.name)
                reads += _reads(pieces, fragment, MASTER, target)
            else:
                told.new_moments.add(fragment.name)
                target.zero_()
    read_all(store, name, reads)
    return told


@dataclass(frozen=True, eq=False)
class Read:
    """Numbers of a file, from byte ``offset`` on, that belong into ``target`` (of any dtype)."""

    file: str
    offset: int
    target: Tensor


def _reads(pieces: Sequence[Piece], fragment: Fragment, key: str, target: Tensor) -> Iterator[Read]:
    """What fills ``target``, a state of ``fragment``, with the saved state ``key``."""
    end, filled = fragment.start + fragment.size, 0
    for piece in pieces:
        first, last = max(fragment.start, piece.start), min(end, piece.start + piece.count)
        if first >= last:
            continue
        into = target[first - fragment.start : last - fragment.start]
        yield Read(piece.file, piece.offsets[key] + _BYTES * (first - piece.start), into)
        filled += last - first
    if filled != fragment.size:
        raise DamageError(f"{fragment.name}: {filled} of {fragment.size} numbers are saved")


def whole(store: Store, name: str, manifest: Manifest, of: str, key: str = MASTER) -> Tensor:
    """One parameter's master weights, or another of its states; float32, of its shape."""
    values = torch.empty(manifest.state.shapes[of])
    fragment = Fragment(of, 0, {MASTER: values.view(-1)})
    read_all(store, name, _reads(manifest.pieces[of], fragment, key, values.view(-1)))
    return values


def read_all(store: Store, name: str, reads: Iterable[Read]) -> None:
    """Fill the targets, straight into their memory where they are float32 on this host."""
    batch: list[Read] = []
    held = 0
    for read in reads:
        batch.append(read)
        held += read.target.numel()
        if held >= _BATCH:
            _read_batch(store, name, batch)
            batch, held = [], 0
    if batch:
        _read_batch(store, name, batch)


def _read_batch(store: Store, name: str, batch: Sequence[Read]) -> None:
    values = [
        read.target.detach() if _is_direct(read.target) else torch.empty(read.target.numel())
        for read in batch
    ]
    ranges = [
        Range(read.file, read.offset, bytes_of(into))
        for read, into in zip(batch, values, strict=True)
    ]
    store.read_ranges(name, ranges)
    for read, found in zip(batch, values, strict=True):
        if not _is_direct(read.target):
            read.target.copy_(found)


def _is_direct(target: Tensor) -> bool:
    on_host = target.device.type == "cpu" and target.is_contiguous()
    return on_host and target.dtype == torch.float32
