"""Weights from any file or folder that is understood; what it is, its content tells."""

from __future__ import annotations

from pathlib import Path

from pretrain.checkpoint.location import opened
from pretrain.checkpoint.manifest import is_checkpoint
from pretrain.weights import deepspeed_folder, own, safetensors_files, torch_kinds
from pretrain.weights.found import KINDS, Weights, refuse_averages
from shards import torch_file
from shards.errors import UserError

_BEGINNING_BYTES = 16
# A zip file, a zip file with GPT-SoVITS's version on it, and a bare pickle.
_TORCH = (b"PK", *(b"%02d" % version for version in range(7)), b"\x80")


def read_weights(place: str, *, ema: bool = False) -> Weights:
    """The weights in a file, a folder or, of our own checkpoints, a URL.

    ``ema`` asks for the averages beside them. UserError for what is not there, not understood,
    damaged, or without averages.
    """
    path = Path(place)
    try:
        if "://" in place:
            return own.read(place, ema=ema)
        return _folder(path, ema=ema) if path.is_dir() else _file(path, ema=ema)
    except OSError as error:
        raise UserError(f"{place} cannot be read ({error.strerror}); give {_kinds()}") from error


def exact(place: str) -> str:
    """The place itself or, of our runs, that of the newest checkpoint: it stays what it is."""
    folder = Path(place)
    if "://" in place or (folder.is_dir() and _is_own(folder)):
        store, name, _ = opened(place)
        return store.place(name)
    return place


def _is_own(folder: Path) -> bool:
    # A run's config says where its checkpoints are.
    runs = (folder / "checkpoints").is_dir() or (folder / "config.yaml").is_file()
    return runs or is_checkpoint(folder.absolute().name)


def _folder(folder: Path, *, ema: bool) -> Weights:
    if _is_own(folder):
        return own.read(str(folder), ema=ema)
    if deepspeed_folder.is_deepspeed(folder):
        refuse_averages(str(folder), ema=ema)
        return deepspeed_folder.read(folder)
    found = safetensors_files.folder_file(folder)
    if found is not None:
        return _file(found, ema=ema)
    if any(is_checkpoint(path.name) for path in folder.iterdir()):
        return own.read(str(folder), ema=ema)
    raise _unknown(str(folder))


def _file(path: Path, *, ema: bool) -> Weights:
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING_BYTES)
    if safetensors_files.is_safetensors(beginning):
        refuse_averages(str(path), ema=ema)
        return safetensors_files.read_file(path)
    files = safetensors_files.index_in(path) if beginning.lstrip()[:1] == b"{" else None
    if files is not None:
        refuse_averages(str(path), ema=ema)
        return safetensors_files.read_index(path, files)
    if not beginning.startswith(_TORCH):
        raise _unknown(str(path))
    found = torch_kinds.recognised(torch_file.load(path, str(path)), str(path), ema=ema)
    if found is None:
        raise _unknown(str(path))
    return found


def _unknown(place: str) -> UserError:
    return UserError(f"{place} is nothing that is understood; give {_kinds()}")


def _kinds() -> str:
    *most, last = KINDS.values()
    return f"{', '.join(most)} or {last}"
