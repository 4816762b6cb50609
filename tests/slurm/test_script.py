"""The rendered job script: what it asks of SLURM, and what each node is told to run."""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from two_nodes import needs

from shards.errors import UserError
from slurm.node import _parser, words
from slurm.script import Job, Resources, render
from slurm.site import SiteConfig

SPECIAL = 'it\'s a "b" $HOME `id` %j @@{run} # &'
RESOURCES = Resources(
    nodes=2, gpus_per_node=8, processes_per_node=8, cpus_per_node=40, time="1-00:00:00", lead=300
)
JOB = Job(
    name="base",
    folder=Path("/data/runs/base"),
    submitted=Path("/data/runs/base/slurm/20260102-030405"),
    working_folder=Path("/home/me/work"),
    python=Path("/opt/segue/bin/python"),
    accelerate_config="zero2.yaml",
    resources=RESOURCES,
    site=SiteConfig(),
)
ON_CPU = replace(RESOURCES, gpus_per_node=0, processes_per_node=2, cpus_per_node=6)
SPEAKING_PYTHON = """\
#!/bin/bash
[[ $2 == slurm.after ]] && { echo end; exit; }
printf '%s\\0' "$DS_ACCELERATOR" "$OMP_NUM_THREADS" "$PYTHONPATH" "$@"
"""
SRUN_ON_NODE_1 = """\
#!/bin/bash
while [[ $1 == --* ]]; do shift; done
SLURM_NODEID=1 "$@"
"""
SCONTROL_OF_TWO = """\
#!/bin/bash
[[ "$*" == "show hostnames a[7-8]" ]] && printf 'a7\\na8\\n'
exit 0
"""
SLURM_OF_JOB = {
    "SLURM_JOB_ID": "40123",
    "SLURM_JOB_NODELIST": "a[7-8]",
    "SLURM_NNODES": "2",
    "SLURMD_NODENAME": "a7",
}


def write_programs(folder: Path, **programs: str) -> None:
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


def directives(script: str) -> list[str]:
    marker = "#SBATCH "
    return [line.removeprefix(marker) for line in script.splitlines() if line.startswith(marker)]


def told(job: Job, folder: Path, expected: int = 0, **environment: str) -> list[str]:
    """What the second of two nodes gets: accelerator, threads, Python's path, its arguments."""
    write_programs(folder, python=SPEAKING_PYTHON, srun=SRUN_ON_NODE_1, scontrol=SCONTROL_OF_TWO)
    cores = str(job.resources.cpus_per_node)
    done = subprocess.run(
        ["bash", "-c", render(replace(job, python=folder / "python"))],
        env={"PATH": os.environ["PATH"], "DS_ACCELERATOR": "", "OMP_NUM_THREADS": ""}
        | SLURM_OF_JOB
        | {"SLURM_CPUS_PER_TASK": cores}
        | environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == expected, done.stderr
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
        "--output=/data/runs/base/slurm/job-%j.out",
    ):
        assert line in asked


def test_what_is_not_given_is_not_asked_for() -> None:
    asked = "\n".join(directives(render(replace(JOB, resources=ON_CPU))))
    for option in ("gpus", "partition", "account", "qos", "constraint", "mem", "mail", "array"):
        assert option not in asked


def test_the_site_gets_what_it_wants_to_know() -> None:
    site = SiteConfig(
        partition="gpu",
        account="a1",
        qos="long",
        constraint="h100&ib",
        mem="0",
        mail="me@lab",
        sbatch=["--exclusive", "--reservation=maintenance day"],
    )
    asked = directives(render(replace(JOB, site=site)))
    assert asked[-9:] == [
        "--partition=gpu",
        "--account=a1",
        "--qos=long",
        '--constraint="h100&ib"',
        "--mem=0",
        "--mail-user=me@lab",
        "--mail-type=END,FAIL,REQUEUE",
        "--exclusive",
        '--reservation="maintenance day"',
    ]


def test_the_script_is_warned_before_the_time_limit() -> None:
    assert "--signal=B:USR1@300" in directives(render(JOB))


def test_an_array_runs_one_task_at_a_time_each_with_its_own_output() -> None:
    asked = directives(render(replace(JOB, resources=replace(RESOURCES, array="1-5%3"))))
    assert "--array=1-5%1" in asked
    assert "--output=/data/runs/base/slurm/job-%A_%a.out" in asked


def test_a_dependency_is_joined_with_the_rule_of_one_job_at_a_time() -> None:
    after = replace(JOB, resources=replace(RESOURCES, dependency="afterok:7,after:8"))
    asked = directives(render(after))
    assert "--dependency=afterok:7,after:8,singleton" in asked
    assert "--kill-on-invalid-dep=yes" in asked
    either = replace(JOB, resources=replace(RESOURCES, dependency="afterok:7?afterok:8"))
    with pytest.raises(UserError, match=r"--dependency afterok:7\?afterok:8: with '\?'"):
        render(either)


@pytest.mark.parametrize("option", ["exclusive", "-p main", "--a b", "--x\n#SBATCH --nodes=9"])
def test_a_further_option_that_is_none_is_refused(option: str) -> None:
    with pytest.raises(UserError, match=r"sbatch option|cannot stand in a job script"):
        render(replace(JOB, site=SiteConfig(sbatch=[option])))


def test_every_directive_comes_before_the_first_command() -> None:
    before, _, after = render(JOB).partition("\nset -eo pipefail\n")
    assert "#SBATCH" in before
    assert "#SBATCH" not in after


def test_each_node_is_told_of_the_run_and_of_the_first_node(tmp_path: Path) -> None:
    _, _, path, *arguments = told(JOB, tmp_path)
    submitted = "/data/runs/base/slurm/20260102-030405"
    assert path.split(":")[0] == f"{submitted}/code"
    assert arguments == [
        *("-m", "slurm.node", "/data/runs/base", f"{submitted}/config.yaml"),
        *("--accelerate-config", f"{submitted}/code/configs/accelerate/zero2.yaml"),
        *("--head", "a7", "--port", "10123", "--processes", "8"),
    ]


def test_a_node_tells_accelerate_its_own_rank() -> None:
    arguments = ["/runs/base", "/c.yaml", "--accelerate-config", "/z.yaml", "--processes", "8"]
    given = _parser().parse_args([*arguments, "--head", "a7", "--port", "10123"])
    second = {"SLURM_NNODES": "2", "SLURM_NODEID": "1"}
    assert words(given, second) == (
        *("--config_file", "/z.yaml", "--num_processes", "16"),
        *("--num_machines", "2", "--machine_rank", "1"),
        *("--main_process_ip", "a7", "--main_process_port", "10123"),
        *("--rdzv_backend", "c10d"),
        *("--rdzv_conf", "is_host=0,join_timeout=600,read_timeout=600"),
        *("--deepspeed_multinode_launcher", "standard"),
        *("-m", "pretrain", "/c.yaml"),
    )
    alone = words(given, {"SLURM_NNODES": "1", "SLURM_NODEID": "0"})
    assert "c10d" not in alone and "8" in alone


def test_the_meeting_place_can_be_set_from_outside(tmp_path: Path) -> None:
    said = told(JOB, tmp_path, SEGUE_HEAD_ADDRESS="127.0.0.7", SEGUE_PORT="4242")
    assert said[said.index("--head") + 1] == "127.0.0.7"
    assert said[said.index("--port") + 1] == "4242"


def test_every_start_tries_another_port(tmp_path: Path) -> None:
    said = told(JOB, tmp_path, SLURM_RESTART_COUNT="1")
    assert said[said.index("--port") + 1] == str(10123 + 7919)


def test_a_port_in_use_is_left_to_its_owner(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = told(JOB, tmp_path, SEGUE_HEAD_ADDRESS="127.0.0.1", SEGUE_PORT=str(port))
    assert int(said[said.index("--port") + 1]) > port


def test_nodes_without_gpus_are_told_so(tmp_path: Path) -> None:
    assert "--cpu" not in told(JOB, tmp_path)
    assert told(replace(JOB, resources=ON_CPU), tmp_path)[-3:] == ["--processes", "2", "--cpu"]


def test_a_signal_before_the_processes_start_is_not_lost(tmp_path: Path) -> None:
    site = SiteConfig(setup=["kill -TERM $$", "kill -USR1 $$"])
    assert told(replace(JOB, site=site), tmp_path, expected=75) == []


def test_setup_that_fails_is_named(tmp_path: Path) -> None:
    script = render(replace(JOB, site=SiteConfig(setup=["module load cuda/nine"])))
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert "setup of the site failed: module load cuda/nine" in done.stderr


def test_the_site_sets_the_environment_up_first(tmp_path: Path) -> None:
    lines = ["OMP_NUM_THREADS=$((2 + ${UNSET_THERE:-1}))", "export OMP_NUM_THREADS"]
    site = SiteConfig(setup=lines, environment={"DS_ACCELERATOR": 'it\'s "quoted" $HOME'})
    assert told(replace(JOB, site=site), tmp_path)[:2] == ['it\'s "quoted" $HOME', "3"]


def test_values_reach_the_nodes_as_they_were_written(tmp_path: Path) -> None:
    programs = tmp_path / 'it\'s "mine" $HOME'
    programs.mkdir()
    nasty = replace(JOB, folder=Path("/data", SPECIAL), submitted=Path("/data", SPECIAL, "x"))
    said = told(nasty, programs)
    assert said[5:7] == [f"/data/{SPECIAL}", f"/data/{SPECIAL}/x/config.yaml"]


def test_a_container_holds_the_processes_and_the_verdict() -> None:
    site = SiteConfig(container="team image.sqsh", mounts=["/corpus:/corpus"])
    script = render(replace(JOB, site=site))
    options = (
        "'--container-image=team image.sqsh' --container-mounts=/home/me/work:/home/me/work,"
        "/data/runs/base:/data/runs/base,/corpus:/corpus --container-workdir=/home/me/work"
    )
    assert script.count(options) == 2
    assert "\npython=python3\n" in script


def test_apptainer_is_called_on_every_node() -> None:
    site = SiteConfig(
        container="a.sif", container_runtime="apptainer", mounts=["/corpus"], python="/conda/python"
    )
    script = render(replace(JOB, site=site))
    command = (
        "apptainer exec --nv --bind /home/me/work --bind /data/runs/base --bind /corpus "
        "--pwd /home/me/work a.sif"
    )
    assert script.count(command) == 2
    assert "\npython=/conda/python\n" in script


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_variable_is_one_word_of_the_script(value: str) -> None:
    script = render(replace(JOB, site=SiteConfig(environment={"MINE": value})))
    line = script[script.index("export MINE=") : script.index("set -u\n")]
    done = subprocess.run(
        ["bash", "-c", f'{line}printf "%s" "$MINE"'], capture_output=True, check=True
    )
    assert done.stdout.decode() == value


def test_a_folder_with_spaces_quotes_and_percents_is_one_directive() -> None:
    asked = directives(render(replace(JOB, folder=Path('/d/50% "of" it\'s'))))
    assert '--output="/d/50%% \\"of\\" it\'s/slurm/job-%j.out"' in asked


@pytest.mark.parametrize("partition", ["a\n#SBATCH --nodes=9", "a\\b", "a\tb"])
def test_a_value_that_would_break_its_line_is_refused(partition: str) -> None:
    job = replace(JOB, site=SiteConfig(partition=partition))
    with pytest.raises(UserError, match=r"--partition=.* cannot stand in a job script"):
        render(job)


SCRIPTS = {
    "gpus": JOB,
    "cpu": replace(JOB, resources=ON_CPU),
    "array": replace(JOB, resources=replace(RESOURCES, array="1-5", dependency="afterok:1")),
    "pyxis": replace(JOB, site=SiteConfig(container="a b", mounts=["/corpus"])),
    "apptainer": replace(
        JOB, site=SiteConfig(container="a.sif", container_runtime="apptainer", exclude_failed=True)
    ),
    "special": replace(JOB, folder=Path("/data", SPECIAL), site=SiteConfig(python=SPECIAL)),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_can_read_it(name: str) -> None:
    subprocess.run(["bash", "-n"], input=render(SCRIPTS[name]), text=True, check=True)


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "special"])
def test_shellcheck_finds_nothing(name: str) -> None:
    needs(["shellcheck"])
    done = subprocess.run(
        ["shellcheck", "-"],
        check=False,
        input=render(SCRIPTS[name]),
        capture_output=True,
        text=True,
    )
    assert done.stdout == ""
