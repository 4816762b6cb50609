"""The rendered job script: what it asks of SLURM, and what each node is told to run."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import UserError
from slurm.script import Job, Resources, render

NASTY = 'it\'s a "b" $HOME `id` \\ %j @@{run}; # &'
RESOURCES = Resources(
    nodes=2, gpus_per_node=8, processes_per_node=8, cpus_per_node=40, time="1-00:00:00"
)
JOB = Job(
    name="base",
    folder=Path("/data/runs/base"),
    working_folder=Path("/home/me/work"),
    programs=Path("/opt/segue/bin"),
    accelerate_config=Path("/opt/segue/zero2.yaml"),
    config=Path("/home/me/work/run.yaml"),
    overrides=("data.path=/data/shards", "device=cuda"),
    resources=RESOURCES,
)
ON_CPU = replace(RESOURCES, gpus_per_node=0, processes_per_node=2, cpus_per_node=6)
SPEAKING_ACCELERATE = """\
#!/bin/bash
printf '%s\\0' "$DS_ACCELERATOR" "$OMP_NUM_THREADS" "$@"
"""
SRUN_ON_NODE_1 = """\
#!/bin/bash
while [[ $1 == --* ]]; do shift; done
SLURM_NODEID=1 "$@"
"""
SCONTROL_OF_TWO = """\
#!/bin/bash
[[ "$*" == "show hostnames a[7-8]" ]] && printf 'a7\\na8\\n'
"""


def directives(script: str) -> list[str]:
    marker = "#SBATCH "
    return [line.removeprefix(marker) for line in script.splitlines() if line.startswith(marker)]


def told_to_accelerate(job: Job, folder: Path, **environment: str) -> list[str]:
    """What accelerate gets on the second of two nodes: DS_ACCELERATOR, threads, arguments."""
    programs = {
        "accelerate": SPEAKING_ACCELERATE,
        "srun": SRUN_ON_NODE_1,
        "scontrol": SCONTROL_OF_TWO,
    }
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": "40123",
        "SLURM_JOB_NODELIST": "a[7-8]",
        "SLURM_NNODES": "2",
        "SLURM_CPUS_PER_TASK": str(job.resources.cpus_per_node),
    }
    done = subprocess.run(
        ["bash", "-c", render(replace(job, programs=folder))],
        env={"PATH": os.environ["PATH"], "DS_ACCELERATOR": "", "OMP_NUM_THREADS": ""}
        | slurm
        | environment,
        capture_output=True,
        check=True,
    )
    _greeting, _, said = done.stdout.partition(b"\n")
    return said.decode().split("\0")[:-1]


def test_sbatch_is_asked_for_nodes_of_one_task_that_may_be_requeued() -> None:
    asked = directives(render(JOB))
    for line in (
        "--job-name=base",
        "--nodes=2",
        "--ntasks-per-node=1",
        "--gpus-per-node=8",
        "--cpus-per-task=40",
        "--time=1-00:00:00",
        "--requeue",
        "--open-mode=append",
        "--dependency=singleton",
        "--chdir=/home/me/work",
        "--output=/data/runs/base/slurm-%j.out",
    ):
        assert line in asked


def test_what_is_not_given_is_not_asked_for() -> None:
    asked = "\n".join(directives(render(replace(JOB, resources=ON_CPU))))
    for option in ("gpus", "partition", "account", "qos", "constraint"):
        assert option not in asked


def test_the_site_gets_what_it_wants_to_know() -> None:
    site = replace(RESOURCES, partition="gpu", account="a1", qos="long", constraint="h100&ib")
    asked = directives(render(replace(JOB, resources=site)))
    assert asked[-4:] == [
        "--partition=gpu",
        "--account=a1",
        "--qos=long",
        '--constraint="h100&ib"',
    ]


def test_every_directive_comes_before_the_first_command() -> None:
    before, _, after = render(JOB).partition("\nset -euo pipefail\n")
    assert "#SBATCH" in before
    assert "#SBATCH" not in after


def test_each_node_runs_accelerate_with_its_own_rank(tmp_path: Path) -> None:
    _, _, *arguments = told_to_accelerate(JOB, tmp_path)
    assert arguments == [
        "launch",
        *("--machine_rank", "1"),
        *("--config_file", "/opt/segue/zero2.yaml"),
        *("--num_machines", "2"),
        *("--num_processes", "16"),
        *("--main_process_ip", "a7"),
        *("--main_process_port", "10123"),
        *("--rdzv_backend", "static"),
        *("--deepspeed_multinode_launcher", "standard"),
        *("-m", "pretrain"),
        *("/home/me/work/run.yaml", "data.path=/data/shards", "device=cuda"),
    ]


def test_the_meeting_place_can_be_set_from_outside(tmp_path: Path) -> None:
    said = told_to_accelerate(JOB, tmp_path, SEGUE_HEAD_ADDRESS="10.0.0.7", SEGUE_PORT="4242")
    assert said[said.index("--main_process_ip") + 1] == "10.0.0.7"
    assert said[said.index("--main_process_port") + 1] == "4242"


def test_nodes_without_gpus_share_their_cores(tmp_path: Path) -> None:
    assert told_to_accelerate(JOB, tmp_path)[:2] == ["", ""]
    assert told_to_accelerate(replace(JOB, resources=ON_CPU), tmp_path)[:2] == ["cpu", "3"]


def test_values_reach_the_nodes_as_they_were_written(tmp_path: Path) -> None:
    programs = tmp_path / 'it\'s "mine" $HOME'
    programs.mkdir()
    nasty = replace(
        JOB,
        config=Path("/home/me", NASTY),
        accelerate_config=Path("/opt", NASTY),
        overrides=(f"run.name={NASTY}", "", "a\nb", "*"),
    )
    said = told_to_accelerate(nasty, programs)
    assert said[said.index("--config_file") + 1] == f"/opt/{NASTY}"
    assert said[-5:] == [f"/home/me/{NASTY}", f"run.name={NASTY}", "", "a\nb", "*"]


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_override_is_one_word_of_the_script(override: str) -> None:
    script = render(replace(JOB, overrides=(override,)))
    array = script[script.index("run=(") : script.index("\n)\n", script.index("run=("))]
    show = f'{array}\n)\nprintf "%s\\0" "${{run[@]}}"'
    done = subprocess.run(["bash", "-c", show], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[3].decode() == override


def test_a_folder_with_spaces_quotes_and_percents_is_one_directive() -> None:
    asked = directives(render(replace(JOB, folder=Path('/d/50% "of" it\'s'))))
    assert '--output="/d/50%% \\"of\\" it\'s/slurm-%j.out"' in asked


@pytest.mark.parametrize("partition", ["a\n#SBATCH --nodes=9", "a\\b", "a\tb"])
def test_a_value_that_would_break_its_line_is_refused(partition: str) -> None:
    job = replace(JOB, resources=replace(RESOURCES, partition=partition))
    with pytest.raises(UserError, match=r"--partition=.* cannot stand in a job script"):
        render(job)


SCRIPTS = {
    "gpus": JOB,
    "cpu": replace(JOB, resources=ON_CPU),
    "nasty": replace(JOB, config=Path("/home/me", NASTY), overrides=(NASTY,)),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_can_read_it(name: str) -> None:
    subprocess.run(["bash", "-n"], input=render(SCRIPTS[name]), text=True, check=True)


@pytest.mark.skipif(
    shutil.which("shellcheck") is None, reason="no shellcheck: apt-get install shellcheck"
)
@pytest.mark.parametrize("name", ["gpus", "cpu"])
def test_shellcheck_finds_nothing(name: str) -> None:
    done = subprocess.run(
        ["shellcheck", "-"],
        check=False,
        input=render(SCRIPTS[name]),
        capture_output=True,
        text=True,
    )
    assert done.stdout == ""
