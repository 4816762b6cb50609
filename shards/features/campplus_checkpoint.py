"""Files with the weights of CAM++."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from shards import torch_file
from shards.errors import UserError

if TYPE_CHECKING:
    import torch

    from shards.features.campplus import CamPlusPlus

_EXPECTED = "campplus_cn_common.bin (CAM++ of 3D-Speaker with 80 mel bins and 192 outputs)"
_OLDER_PREFIXED = ("xvector.stats.", "xvector.dense.")
_UNUSED = "num_batches_tracked"
"""What only training reads, and not every file has."""


@dataclass(frozen=True)
class CampplusFile:
    """A file with the weights of CAM++; ``option`` names it in messages."""

    option: str
    path: Path

    @classmethod
    def opened(cls, option: str, path: str | None) -> CampplusFile:
        """The file that ``option`` names; UserError without one, or if it will not do."""
        if not path:
            raise UserError(
                f"{option}: not set; write {option}=FILE with the weights of CAM++ "
                "(campplus_cn_common.bin), or take the style mean_mel, which needs none"
            )
        file = cls(option, Path(path).expanduser())
        read_weights(file)
        return file

    def fingerprint(self) -> str:
        """Of the numbers themselves, whatever file they came in."""
        digest = xxhash.xxh3_64()
        for key, tensor in read_weights(self).items():
            if not key.endswith(_UNUSED):
                digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


@cache
def network(file: CampplusFile, device: torch.device) -> CamPlusPlus:
    """The network with the weights of ``file``, frozen, on ``device``."""
    from shards.features.campplus import CamPlusPlus

    model = CamPlusPlus()
    model.load_state_dict(read_weights(file))
    return model.eval().requires_grad_(False).to(device)


@cache
def read_weights(file: CampplusFile) -> dict[str, torch.Tensor]:
    """All that the network has, float32 on the CPU, read once per process.

    Takes a plain dictionary of tensors by torch.save or safetensors; the older files that name
    ``dense`` with the prefix ``xvector.`` too. UserError for a file that is no such thing.
    """
    from shards.features.campplus import CamPlusPlus

    own = CamPlusPlus().state_dict()
    given = _given(file)
    lacking = [key for key in own if key not in given and not key.endswith(_UNUSED)]
    other = [key for key in given if key not in own or given[key].shape != own[key].shape]
    if lacking or other:
        what = [f"lacks {key}" for key in lacking[:1]]
        what += [f"has a {key} {list(given[key].shape)} that does not fit" for key in other[:1]]
        raise UserError(f"{file.option}: {file.path} {' and '.join(what)}; give {_EXPECTED}")
    return {key: given.get(key, own[key]).to(own[key].dtype) for key in own}


def _given(file: CampplusFile) -> dict[str, torch.Tensor]:
    """The file's tensors by the names that the network has now."""
    import torch

    saved = _load(file)
    if not isinstance(saved, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in saved.values()
    ):
        raise UserError(f"{file.option}: {file.path} is no dictionary of tensors; give {_EXPECTED}")
    return {_current_name(str(key)): value for key, value in saved.items()}


def _current_name(key: str) -> str:
    return key.removeprefix("xvector.") if key.startswith(_OLDER_PREFIXED) else key


def _load(file: CampplusFile) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    option, path = file.option, file.path
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch_file.load(path, f"{option}: {path}")
    except SafetensorError as error:
        raise UserError(
            f"{option}: {path} is damaged or no file of weights; copy it anew, or give another"
        ) from error
    except OSError as error:
        raise UserError(
            f"{option}: {path} cannot be read ({error.strerror or error}); "
            f"write {option}=FILE of {_EXPECTED}"
        ) from error
