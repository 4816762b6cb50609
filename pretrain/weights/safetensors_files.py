"""Safetensors: one file, or several with an index; read tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pretrain.weights.found import SAFETENSORS, LazyTensors, Weights, number, whole_number
from pretrain.weights.names import HOLDERS, unwrapped
from shards.errors import UserError

INDEX = "*.safetensors.index.json"
CONFIG = "config"
"""The metadata that holds a model's config, as JSON, in our own exports."""
_LENGTH_BYTES = 8


def is_safetensors(beginning: bytes) -> bool:
    """Whether a file that begins so is one: the header's length, then JSON."""
    return beginning[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{"


def index_in(path: Path) -> dict[str, str] | None:
    """Which file holds which tensor, if ``path`` is an index."""
    try:
        told = json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError):
        return None
    files = told.get("weight_map") if isinstance(told, dict) else None
    return files if isinstance(files, dict) and files else None


def folder_file(folder: Path) -> Path | None:
    """The index in a folder, or its only safetensors file; None if there is no such thing."""
    found = sorted(folder.glob(INDEX)) or sorted(folder.glob("*.safetensors"))
    return found[0] if len(found) == 1 else None


def read_file(path: Path) -> Weights:
    """One file. UserError if it is damaged."""
    reads, about = _opened(path)
    config = _json(about[CONFIG]) if CONFIG in about else _beside(path)
    tensors = LazyTensors(unwrapped(reads, HOLDERS))
    step, epoch = whole_number(about.get("step")), number(about.get("epoch"))
    return Weights(SAFETENSORS, str(path), tensors, config, step=step, epoch=epoch)


def read_index(path: Path, files: Mapping[str, str]) -> Weights:
    """The files that an index names, which lie beside it. UserError if one is not whole."""
    opened = {name: _opened(path.parent / Path(name).name)[0] for name in {*files.values()}}
    reads = {}
    for name, file in files.items():
        if name not in opened[file]:
            raise UserError(f"{path}: {file} does not hold {name}; copy both anew")
        reads[name] = opened[file][name]
    tensors = LazyTensors(unwrapped(reads, HOLDERS))
    return Weights(SAFETENSORS, str(path), tensors, _beside(path), f"{len(opened)} files")


def _opened(path: Path) -> tuple[dict[str, Callable[[], Tensor]], dict[str, str]]:
    try:
        file: Any = safe_open(path, framework="pt")
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there; bring it beside the index that names it") from error
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); copy it anew") from error
    names: list[str] = file.offset_keys()
    return {name: partial(file.get_tensor, name) for name in names}, file.metadata() or {}


def _beside(path: Path) -> dict[str, Any]:
    """What a ``config.json`` beside the file says of its model, as in transformers' folders."""
    config = path.parent / "config.json"
    return _json(config.read_text()) if config.is_file() else {}


def _json(text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
