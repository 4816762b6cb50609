"""What the doctor measures for real, and how it judges facts of other machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from launch.accelerate import Meeting, free_port
from launch.doctor.exchange import Exchange
from launch.doctor.finding import Finding, exit_code, fail, ok, warning
from launch.doctor.gpus import Accelerators, Gpu, capability, judge_gpus, judge_network, links_in
from launch.doctor.machine import (
    check_disk,
    judge_disk,
    judge_open_files,
    judge_shared_memory,
    judge_slurm,
)
from launch.doctor.ranks import exchanged, judge_clocks, judge_sums
from launch.doctor.versions import judge_packages, judge_pair, judge_python

GIB = 2**30
A100 = Gpu("A100", (8, 0), 80 * GIB, 79 * GIB, frozenset({1}))
TWO = Accelerators((A100, replace(A100, peers=frozenset({0}))), "12.8", "2.27.5", has_driver=True)
FOUR = Exchange("nccl", ("a", "a", "b", "b"), (0.0, 0.0, 0.1, 0.1), True, 256 << 20, 0.02, 2e-5)
TOPOLOGY = """\
\x1b[4mGPU0\tGPU1\tNIC0\tCPU Affinity\x1b[0m
GPU0\t X \tNV18\tPIX\t0-15
GPU1\tNV18\t X \tSYS\t0-15
NIC0\tPIX\tSYS\t X
"""


def states(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.state for finding in findings}


def test_two_machines_measure_the_same_of_each_other(tmp_path: Path) -> None:
    place = Meeting(2, 0, "127.0.0.1", free_port())
    words = ("--nproc", "1", "--nodes", "2", "--node-rank", "1", "--head", place.head)
    words = (*words, "--port", str(place.port), "--json")
    with ThreadPoolExecutor() as machines:
        first = machines.submit(exchanged, 1, place, "cpu")
        second = subprocess.run(
            [sys.executable, "-m", "launch.main", "doctor", str(tmp_path / "run"), *words],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    here = first.result()
    assert isinstance(here, Exchange) and here.correct and len(here.clocks) == 2
    found = {one["name"]: one for one in json.loads(second.stdout)}
    assert {"torch", "gpus", "shared memory", "open files", "disk", "slurm"} <= set(found)
    assert found["all-reduce"]["found"] == judge_sums(here)[0].found
    assert found["clocks"]["state"] == "ok"
    assert str(tmp_path) in found["disk"]["found"] and not list(tmp_path.iterdir())
    assert second.returncode == any(one["state"] == "fail" for one in found.values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_process_that_ends_is_told_with_its_last_words() -> None:
    why = exchanged(1, Meeting(1, 0, "127.0.0.1", free_port()), "cuda")
    assert isinstance(why, str) and "a process ended" in why and "NVIDIA" in why


def test_only_failures_fail() -> None:
    assert exit_code([ok("a", ""), warning("b", "", "")]) == 0
    assert exit_code([ok("a", ""), fail("b", "", "")]) == 1


def test_packages_that_are_missing_or_of_another_version_fail_with_the_command() -> None:
    wanted = [Requirement(line) for line in ("torch>=2.11,<2.12", "rich>=13,<16", "soxr>=0.5")]
    found = judge_packages(wanted, {"torch": "2.10.1+cu128", "rich": "14.0"})
    assert states(found) == {"torch": "fail", "soxr": "fail"}
    assert found[0].remedy == 'pip install "torch<2.12,>=2.11"'
    assert judge_packages(wanted[:1], {"torch": "2.11.0+cu128"})[0].state == "ok"
    assert judge_python("3.13.1", ">=3.11,<3.13").state == "fail"


@pytest.mark.parametrize(
    ("torch_version", "audio", "fits"),
    [
        ("2.11.0+cu128", "2.11.0+cu128", True),
        ("2.11.0", "2.11.1+cu128", True),
        ("2.11.0", "2.10.0", False),
        ("2.11.0+cu128", "2.11.0+cpu", False),
    ],
)
def test_torchaudio_must_be_of_torchs_minor_version_and_cuda(
    torch_version: str, audio: str, fits: bool
) -> None:
    assert (judge_pair({"torch": torch_version, "torchaudio": audio}) == []) == fits


def test_a_driver_without_a_gpu_for_torch_fails_and_no_driver_does_not() -> None:
    nothing = Accelerators((), None, None, has_driver=False)
    assert states(judge_gpus(nothing)) == {"gpus": "ok"}
    assert states(judge_gpus(replace(nothing, has_driver=True))) == {"gpus": "fail"}
    unseen = judge_gpus(replace(nothing, has_driver=True, cuda="12.8"))
    assert "CUDA_VISIBLE_DEVICES" in unseen[0].remedy


def test_gpus_are_judged_by_kind_age_free_memory_and_ways_between_them() -> None:
    links = links_in(TOPOLOGY)
    assert links == {"NV18"}
    assert states(judge_gpus(replace(TWO, links=links))) == {"gpus": "ok", "between gpus": "ok"}
    old = Gpu("V100", (7, 0), 32 * GIB, 10 * GIB, frozenset())
    judged = judge_gpus(replace(TWO, gpus=(A100, old)))
    assert set(states(judged)) == {"gpus", "bf16", "gpu memory", "between gpus"}
    assert set(states(judged).values()) == {"warning"}


def test_a_gpu_that_torch_has_no_kernels_for_fails() -> None:
    kernels = frozenset(map(capability, ("sm_75", "sm_80", "sm_90a", "sm_120")))
    assert kernels == {(7, 5), (8, 0), (9, 0), (12, 0)}
    for own, state in (((8, 0), None), ((8, 6), None), ((7, 0), "fail"), ((10, 0), "fail")):
        gpus = (replace(A100, capability=own), A100)
        assert states(judge_gpus(replace(TWO, gpus=gpus, kernels=kernels))).get("kernels") == state


def test_a_dead_port_and_little_locked_memory_are_warned_of() -> None:
    ports = (("mlx5_0/1", "ACTIVE", "200 Gb/sec"), ("mlx5_1/1", "DOWN", "10 Gb/sec"))
    assert states(judge_network(ports[:1], None)) == {"infiniband": "ok"}
    both = states(judge_network(ports, 65536))
    assert both == {"infiniband": "warning", "locked memory": "warning"}
    assert judge_network((), 65536) == []


def test_sums_and_clocks_of_several_machines_are_judged() -> None:
    assert FOUR.bandwidth == pytest.approx(1.5 * (256 << 20) / 0.02)
    assert states([*judge_sums(FOUR), *judge_clocks(FOUR)]) == {"all-reduce": "ok", "clocks": "ok"}
    slow = judge_sums(replace(FOUR, seconds=2.0))[0]
    assert slow.state == "warning" and "NCCL_SOCKET_IFNAME" in slow.remedy
    assert judge_sums(replace(FOUR, correct=False))[0].state == "fail"
    ahead = judge_clocks(replace(FOUR, clocks=(0.0, 0.0, 3.0, 3.0)))[0]
    assert ahead.state == "warning" and "b is furthest" in ahead.remedy
    assert judge_clocks(replace(FOUR, clocks=(0.0, 0.0, 0.0, -2000.0)))[0].state == "fail"


def test_a_disk_is_judged_by_speed_and_room(tmp_path: Path) -> None:
    assert judge_disk(tmp_path, 500e6, 1e12)[0].state == "ok"
    assert "run.dir" in judge_disk(tmp_path, 20e6, 1e12)[0].remedy
    assert "checkpoint.keep_last" in judge_disk(tmp_path, 500e6, 1e9)[0].remedy
    assert check_disk(Path("/proc/nowhere"))[0].state == "fail"


def test_a_run_folder_that_cannot_be_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    (found,) = check_disk(tmp_path / "taken" / "run")
    assert found.state == "fail" and f"{tmp_path / 'taken'} is not a folder" in found.found
    (found,) = check_disk(tmp_path / ("x" * 300))  # it cannot even be looked up
    assert found.state == "fail"


def test_docker_s_small_shared_memory_fails_only_several_gpus() -> None:
    assert judge_shared_memory(64 << 20, gpus=0)[0].state == "warning"
    assert judge_shared_memory(64 << 20, gpus=8)[0].state == "fail"
    assert judge_shared_memory(8 * GIB, gpus=8)[0].state == "ok"


def test_few_open_files_are_warned_of_with_what_is_allowed() -> None:
    assert judge_open_files(1024, 10_000)[0].remedy == "ulimit -n 10000"
    assert judge_open_files(1024, -1)[0].remedy == "ulimit -n 65536"
    assert judge_open_files(-1, -1)[0].state == "ok"


def test_a_job_s_other_nodes_are_named() -> None:
    job = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_NODEID": "1"}
    assert judge_slurm(job, "sbatch", nodes=2)[0].state == "ok"
    assert "srun" in judge_slurm(job, "sbatch", nodes=1)[0].remedy
    assert judge_slurm({}, None, nodes=1)[0].found == "none here"
