"""The quantizer in a GPT-SoVITS s2G checkpoint: what turns HuBERT frames into semantic tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from shards import torch_file
from shards.errors import UserError

if TYPE_CHECKING:
    import torch

OPTION = "sovits.checkpoint"
_WEIGHT, _BIAS = "ssl_proj.weight", "ssl_proj.bias"
_CODES = "quantizer.vq.layers.0._codebook.embed"
_KEYS = (_WEIGHT, _BIAS, _CODES)
_EXPECTED = f"{_WEIGHT} [D, D, 1 or 2], {_BIAS} [D] and {_CODES} [codes, D]"


@dataclass(frozen=True, eq=False)
class SovitsQuantizer:
    """weight: [D, D, k], a convolution of stride k; bias: [D]; codes: [n, D]; all float32."""

    weight: torch.Tensor
    bias: torch.Tensor
    codes: torch.Tensor

    @property
    def stride(self) -> int:
        """HuBERT frames per token: 2 in checkpoints of 25 Hz, 1 in those of 50 Hz."""
        return int(self.weight.shape[2])

    def tokens(self, frames: NDArray[np.float32]) -> NDArray[np.int16]:
        """The nearest code of each projected frame: [T, D] -> int16 [T // stride]."""
        import torch

        signal = torch.from_numpy(frames).T[None]
        projected = torch.nn.functional.conv1d(signal, self.weight, self.bias, stride=self.stride)[
            0
        ].T
        # |x - c|^2 without |x|^2, which is the same for every code.
        distance = self.codes.square().sum(1) - 2 * projected @ self.codes.T
        nearest: NDArray[np.int16] = distance.argmin(1).to(torch.int16).numpy()
        return nearest

    def fingerprint(self) -> str:
        """Of the numbers themselves, whatever file they came in."""
        digest = xxhash.xxh3_64()
        for tensor in (self.weight, self.bias, self.codes):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


@cache
def read_quantizer(path: Path) -> SovitsQuantizer:
    """The quantizer of the s2G file at ``path``, read once per process.

    Takes training files (``model``) and exports (``weight``), with or without a version in place
    of their first two bytes. UserError for a file that is no such thing.
    """
    import torch

    weights = _weights(path)
    missing = [key for key in _KEYS if not isinstance(weights.get(key), torch.Tensor)]
    if missing:
        raise UserError(
            f"{OPTION}: {path} lacks {', '.join(missing)}; give an s2G file with {_EXPECTED}"
        )
    weight, bias, codes = (weights[key].float() for key in _KEYS)
    if not _fit_together(weight, bias, codes):
        raise UserError(
            f"{OPTION}: {path} has {_WEIGHT} {list(weight.shape)}, {_BIAS} {list(bias.shape)} and "
            f"{_CODES} {list(codes.shape)}; give an s2G file with {_EXPECTED}"
        )
    return SovitsQuantizer(weight, bias, codes)


def _fit_together(weight: torch.Tensor, bias: torch.Tensor, codes: torch.Tensor) -> bool:
    if codes.dim() != 2:
        return False
    width = codes.shape[1]
    return weight.shape in {(width, width, 1), (width, width, 2)} and bias.shape == (width,)


def _weights(path: Path) -> Mapping[str, Any]:
    saved = _load(path)
    for key in ("weight", "model"):
        if isinstance(saved, Mapping) and isinstance(saved.get(key), Mapping):
            weights: Mapping[str, Any] = saved[key]
            return weights
    raise UserError(
        f"{OPTION}: {path} holds neither 'weight' nor 'model'; give an s2G file with {_EXPECTED}"
    )


def _load(path: Path) -> Any:
    try:
        return torch_file.load(path, f"{OPTION}: {path}")
    except OSError as error:
        raise UserError(
            f"{OPTION}: {path} cannot be read ({error.strerror}); write {OPTION}=FILE of an s2G"
        ) from error
