"""Files that other programs wrote with torch.save, read without running what they name.

A pickle names the functions and classes that rebuild it, and could name any. Here they are torch's
own harmless ones and, for what the programs that we read from put beside their weights, inert
stand-ins that keep the data and do nothing.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from shards.errors import UserError

_ZIP = b"PK"
# GPT-SoVITS writes its version where a zip file has its first two bytes.
_VERSIONS = {b"00", b"01", b"02", b"03", b"04", b"05", b"06"}
_ASKED = re.compile(r"GLOBAL (\S+) w")


class Options(dict[str, Any]):
    """The attributes of an object of another program, nested ones too."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the attributes as they were pickled."""
        self.update(state)


def load(path: Path, said: str) -> Any:
    """What a file of torch.save holds, its tensors mapped into memory where the file allows it.

    ``said`` is what messages call the file. UserError for one that is damaged or no such thing, and
    for one that asks for more than is known to be harmless. OSError where it cannot be read.
    """
    import torch

    file = _zip_file(path)
    mapped = isinstance(file, str) and _starts_with(path, _ZIP)
    try:
        with torch.serialization.safe_globals(list(_stand_ins())):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a torn or foreign file fails in many ways
        asked = _ASKED.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if asked:
            raise UserError(
                f"{said} asks for {asked[1]} to be loaded, which weights do not need and "
                "which could run anything; give a file that holds tensors and plain values only"
            ) from error
        raise UserError(
            f"{said} is damaged or no file of weights; copy it anew, or give another"
        ) from error


def _zip_file(path: Path) -> str | io.BytesIO:
    """The file's path, or its content with a version taken off."""
    with path.open("rb") as file:
        if file.read(len(_ZIP)) not in _VERSIONS:
            return str(path)
        return io.BytesIO(_ZIP + file.read())


def _starts_with(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(mark)) == mark


def _stand_ins() -> Iterator[tuple[Any, str]]:
    """(stand-in, the name that it stands for), for all that the files are known to hold."""
    for name in (
        "utils.HParams",  # GPT-SoVITS s2
        "lightning_fabric.utilities.data.AttributeDict",  # Lightning's hyper-parameters
        "lightning.fabric.utilities.data.AttributeDict",
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "deepspeed.utils.tensor_fragment.fragment_address",  # DeepSpeed's ZeRO optimizers
        "deepspeed.runtime.fp16.loss_scaler.LossScaler",
        "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    ):
        yield Options, name
    yield int, "deepspeed.runtime.zero.config.ZeroStageEnum"
    for module in ("pathlib", "pathlib._local"):
        yield _posix_path, f"{module}.PosixPath"
        yield _posix_path, f"{module}.PurePosixPath"
        yield _windows_path, f"{module}.WindowsPath"
        yield _windows_path, f"{module}.PureWindowsPath"


def _posix_path(*parts: str) -> str:
    return str(PurePosixPath(*parts))


def _windows_path(*parts: str) -> str:
    return str(PureWindowsPath(*parts))
