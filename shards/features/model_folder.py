"""Folders of pretrained models that a user gives."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from shards.errors import UserError

if TYPE_CHECKING:
    import torch

_CONFIG = "config.json"
# Patterns, because a large model comes in several files of weights.
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
_CHUNK = 1 << 24


@dataclass(frozen=True)
class Wanted:
    """What a folder has to hold: the ``model_type`` of its config.json, and its files.

    ``what`` and ``files`` are phrases for messages; of every group of ``others`` one file is there.
    """

    what: str
    model_type: str
    files: str
    others: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class ModelFolder:
    """A folder that holds what was wanted; ``fingerprint`` is of its weights.

    ``option`` names it in messages, ``config`` is its config.json.
    """

    option: str
    path: Path
    fingerprint: str
    config: dict[str, Any] = field(compare=False, repr=False)

    @classmethod
    def opened(cls, option: str, folder: str | None, wanted: Wanted) -> ModelFolder:
        """The folder that ``option`` names; UserError, with all it should hold, if it will not do.

        The weights are read once, for their fingerprint, and not yet loaded.
        """
        path = Path(folder or "").expanduser()
        trouble = _trouble(folder, path, wanted)
        if trouble:
            raise UserError(
                f"{option}: {trouble}; write {option}=FOLDER with the folder of {wanted.what}, "
                f"which holds {_CONFIG}, model.safetensors or pytorch_model.bin, and {wanted.files}"
            )
        return cls(option, path, _fingerprint(_weights(path)), _read_config(path))

    def number(self, key: str) -> int:
        """A whole number of config.json; UserError if it has none."""
        value = self.config.get(key)
        if not isinstance(value, int):
            raise UserError(
                f"{self.option}: {self.path / _CONFIG} has no number '{key}'; "
                "give the model's own config.json"
            )
        return value

    def about(self) -> dict[str, str]:
        """What tells this model from others, wherever it lies."""
        return {"name": self.path.resolve().name, "fingerprint": self.fingerprint}


_turn = 0


def take_turn(number: int) -> None:
    """Make this process the one of that ``number``, from 0, among those that share the GPUs."""
    global _turn
    _turn = number


def turn() -> int:
    """What `take_turn` was told last."""
    return _turn


def best_device() -> str:
    """Where packing runs models: on the GPUs, process by process, if there are any."""
    import torch

    return f"cuda:{turn() % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"


def load_model(
    architecture: Any, folder: ModelFolder, device: str | torch.device, **changes: Any
) -> Any:
    """An instance of the transformers class ``architecture`` on ``device``, float32 and frozen.

    ``changes`` overrule its config.json. UserError for weights that cannot be read or that leave a
    part of the model without.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model, found = architecture.from_pretrained(
            folder.path, local_files_only=True, output_loading_info=True, **changes
        )
    except Exception as error:  # torn and foreign files fail in many ways
        raise unloadable(folder, error) from error
    # Only training uses this one, and not every published file has it.
    missing = sorted(set(found["missing_keys"]) - {"masked_spec_embed"})
    if missing:
        raise unloadable(folder, f"its weights lack {', '.join(missing[:3])}")
    return model.float().eval().requires_grad_(False).to(device)


def unloadable(folder: ModelFolder, why: object) -> UserError:
    """The sentence for a folder that looks right and cannot be loaded."""
    first_line = str(why).strip().partition("\n")[0]
    return UserError(
        f"{folder.option}: {folder.path} cannot be loaded ({first_line}); copy the model anew"
    )


def _trouble(folder: str | None, path: Path, wanted: Wanted) -> str | None:
    if not folder:
        return "not set"
    if not path.is_dir():
        return f"{path} is no folder"
    missing = _missing_file(path, wanted)
    if missing:
        return f"{path} has no {missing}"
    kind = _read_config(path).get("model_type")
    if kind != wanted.model_type:
        return f"{path / _CONFIG} is of model type {kind!r}, not {wanted.model_type!r}"
    return None


def _missing_file(path: Path, wanted: Wanted) -> str | None:
    if not (path / _CONFIG).is_file():
        return _CONFIG
    if not _weights(path):
        return "weights"
    for group in wanted.others:
        if not any((path / name).is_file() for name in group):
            return " or ".join(group)
    return None


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / _CONFIG).read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return config if isinstance(config, dict) else {}


def _weights(path: Path) -> list[Path]:
    """The files that `from_pretrained` reads, which prefers safetensors."""
    safe, pickled = (sorted(path.glob(pattern)) for pattern in _WEIGHTS)
    return safe or pickled


def _fingerprint(files: Iterable[Path]) -> str:
    digest = xxhash.xxh3_64()
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
