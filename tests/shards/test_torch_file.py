"""Files of torch.save that come from anywhere."""

from __future__ import annotations

import os
from pathlib import Path, PosixPath
from typing import Any

import pytest
import torch
from tiny_models import foreign_module

from shards import torch_file
from shards.errors import UserError

OPTIONS = """
class HParams:
    def __init__(self, **options):
        self.__dict__.update(options)
"""
TENSOR = torch.arange(6.0).view(2, 3)


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_file_runs_nothing_and_is_told_by_what_it_asks_for(
    tmp_path: Path, zipped: bool
) -> None:
    path, mark = tmp_path / "weights.pth", tmp_path / "ran"
    trap = {"weight": {"a": TENSOR}, "config": Trap(f"touch {mark}")}
    torch.save(trap, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"^PATH: it asks for posix\.system"):
        torch_file.load(path, "PATH: it")
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists(), "the trap does not work, so this test shows nothing"


def test_options_of_another_program_are_read_as_plain_data(tmp_path: Path) -> None:
    with foreign_module("utils", OPTIONS) as utils:
        inner = utils.HParams(version="v2", upsample_rates=[10, 8])
        torch.save({"config": utils.HParams(model=inner, name="x")}, tmp_path / "s2.pth")
    config = torch_file.load(tmp_path / "s2.pth", "PATH")["config"]
    assert config == {"model": {"version": "v2", "upsample_rates": [10, 8]}, "name": "x"}


def test_a_path_is_read_as_text(tmp_path: Path) -> None:
    torch.save({"output_dir": PosixPath("/data/logs/s1")}, tmp_path / "epoch=1.ckpt")
    assert torch_file.load(tmp_path / "epoch=1.ckpt", "PATH") == {"output_dir": "/data/logs/s1"}


@pytest.mark.parametrize("version", [b"00", b"03", b"06"])
def test_a_version_in_place_of_the_first_two_bytes_is_taken_off(
    tmp_path: Path, version: bytes
) -> None:
    path = tmp_path / "s2.pth"
    torch.save({"a": TENSOR}, path)
    path.write_bytes(version + path.read_bytes()[2:])
    assert torch.equal(torch_file.load(path, "PATH: it")["a"], TENSOR)


def test_files_of_the_old_format_are_read(tmp_path: Path) -> None:
    torch.save({"a": TENSOR}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(torch_file.load(tmp_path / "old.pth", "PATH")["a"], TENSOR)


@pytest.mark.parametrize("content", [b"", b"PK", b"05junk", b"text", b"\x80\x02junk"])
def test_a_file_of_something_else_is_a_user_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=r"^FILE is damaged or no file of weights"):
        torch_file.load(tmp_path / "file", "FILE")
