"""Checkpoints that DeepSpeed wrote, of two real processes and every ZeRO stage, read whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from distributed_runs import run_script

from pretrain.weights.read import read_weights
from shards.errors import UserError

PROCESS = Path(__file__).with_name("deepspeed_process.py")
CASES = {0: "fp32", 1: "bf16", 2: "fp32", 3: "bf16"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of checkpoints, by stage."""
    out = tmp_path_factory.mktemp("deepspeed")
    cases = (f"{stage}:{precision}" for stage, precision in CASES.items())
    run_script(PROCESS, str(out), *cases)
    return out


@pytest.mark.parametrize("stage", CASES)
def test_the_float32_weights_are_put_together(saved: Path, stage: int) -> None:
    expected = torch.load(saved / str(stage) / "expected.pt")
    found = read_weights(str(saved / str(stage)))
    assert (found.kind, found.about) == ("deepspeed", f"step 3, ZeRO stage {stage}")
    assert {*found.tensors} == {*expected}
    for name, values in expected.items():
        read = found.tensors[name]
        assert read.dtype == torch.float32
        # What does not train is saved as it is used, in the run's precision.
        rounded = name == "b.bias" and CASES[stage] == "bf16"
        assert torch.equal(read, values.bfloat16().float() if rounded else values), name


def test_the_folder_of_one_step_is_taken_too(saved: Path) -> None:
    assert read_weights(str(saved / "2" / "global_step3")).about == "step 3, ZeRO stage 2"


def test_a_missing_rank_is_a_user_error(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved / "2", tmp_path / "copy")
    next((tmp_path / "copy").glob("*/*rank_1*_optim_states.pt")).unlink()
    with pytest.raises(UserError, match="1 of 2 ranks' files"):
        read_weights(str(tmp_path / "copy"))


def test_a_model_split_by_tensor_parallelism_is_a_user_error(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved / "2", tmp_path / "copy")
    (tmp_path / "copy" / "global_step3" / "mp_rank_01_model_states.pt").touch()
    with pytest.raises(UserError, match="split by tensor parallelism"):
        read_weights(str(tmp_path / "copy"))
