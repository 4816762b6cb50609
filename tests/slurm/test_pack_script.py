"""The rendered scripts of a packing: what they ask of SLURM, run, and do when they are stopped."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from two_nodes import needs, wait_until

from shards.errors import UserError
from slurm.pack_script import PackJob, render_merge, render_pack
from slurm.site import SiteConfig

SPECIAL = 'it\'s a "b" $HOME `id` 50%j @@{out} # &'
JOB = PackJob(
    source=Path("/corpora/speech"),
    out=Path("/data/shards"),
    kind="folder",
    submitted=Path("/data/shards/slurm/20260102-030405"),
    working_folder=Path("/home/me/work"),
    python=Path("/opt/segue/bin/python"),
    tasks=16,
    cpus_per_task=8,
    gpus_per_task=0,
    time="12:00:00",
    site=SiteConfig(max_requeues=3),
)
SRUN = '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n'
SCONTROL = """\
#!/bin/bash
case $1 in
    show) echo "JobId=47 ArrayJobId=40 JobName=pack JobState=$STATE Reason=None" ;;
    *) echo "$*" >> "$SAID" ;;
esac
"""
SPEAKS = 'printf "%s\\0" "$PYTHONPATH" "$@"'


def run(script: str, folder: Path, *, state: str, restarts: int = 0) -> subprocess.Popen[bytes]:
    """Task 2 of the array 40 as its node starts it, with SLURM's programs replaced."""
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "SAID": str(folder / "said"),
        "STATE": state,
        "SLURM_ARRAY_JOB_ID": "40",
        "SLURM_ARRAY_TASK_ID": "2",
        "SLURM_CPUS_PER_TASK": "8",
        "SLURM_RESTART_COUNT": str(restarts),
        "SLURMD_NODENAME": "a7",
    }
    return subprocess.Popen(["bash", "-c", script], env=environment, stdout=subprocess.PIPE)


def with_python(job: PackJob, folder: Path, text: str) -> PackJob:
    """The job with a program of these lines in the place of Python."""
    python = folder / "python"
    python.write_text(f"#!/bin/bash\n{text}\n")
    python.chmod(0o755)
    return replace(job, python=python)


def directives(script: str) -> list[str]:
    marker = "#SBATCH "
    return [line.removeprefix(marker) for line in script.splitlines() if line.startswith(marker)]


def test_each_task_of_the_array_may_be_requeued_and_is_warned() -> None:
    asked = directives(render_pack(JOB))
    for line in (
        "--job-name=pack-shards",
        "--dependency=singleton",
        "--array=1-16",
        "--chdir=/home/me/work",
        "--output=/data/shards/slurm/pack-%A_%a.out",
        "--open-mode=append",
        "--requeue",
        "--cpus-per-task=8",
        "--time=12:00:00",
        "--signal=B:USR1@60",
    ):
        assert line in asked
    assert not any("gpus" in line for line in asked)
    assert "--gpus-per-task=2" in directives(render_pack(replace(JOB, gpus_per_task=2)))


def test_the_merge_leaves_the_queue_when_a_part_has_failed() -> None:
    asked = directives(render_merge(replace(JOB, gpus_per_task=2)))
    for line in (
        "--job-name=pack-shards",
        "--kill-on-invalid-dep=yes",
        "--output=/data/shards/slurm/merge-%j.out",
        "--requeue",
    ):
        assert line in asked
    assert not any(line.startswith(("--array", "--gpus")) for line in asked)


def test_both_scripts_tell_the_site_what_it_wants_to_know() -> None:
    site = SiteConfig(partition="cpu", account="a1", mem="32G", sbatch=["--exclusive"])
    for render in (render_pack, render_merge):
        asked = directives(render(replace(JOB, site=site)))
        assert asked[-4:] == ["--partition=cpu", "--account=a1", "--mem=32G", "--exclusive"]


def test_a_task_packs_its_part_with_the_copies_of_the_submission(tmp_path: Path) -> None:
    job = replace(JOB, source=Path("/corpora", SPECIAL), out=Path("/data", SPECIAL))
    task = run(render_pack(with_python(job, tmp_path, SPEAKS)), tmp_path, state="RUNNING")
    out, _ = task.communicate(timeout=60)
    greeting, _, told = out.partition(b"\n")
    assert greeting == b"part 2/16, start 1 on a7"
    path, *arguments = told.decode().split("\0")[:-1]
    assert path == "/data/shards/slurm/20260102-030405/code"
    assert arguments == [
        *("-m", "shards", "pack", f"/corpora/{SPECIAL}", f"/data/{SPECIAL}"),
        *("--from", "folder"),
        *("--config", "/data/shards/slurm/20260102-030405/config.yaml"),
        *("--part", "2/16"),
        *("--workers", "8"),
    ]


def test_the_merge_runs_the_command_of_a_merge(tmp_path: Path) -> None:
    task = run(render_merge(with_python(JOB, tmp_path, SPEAKS)), tmp_path, state="RUNNING")
    out, _ = task.communicate(timeout=60)
    assert out.decode().split("\0")[1:-1] == ["-m", "shards", "merge", "/data/shards"]


@pytest.mark.parametrize(
    ("packing", "state", "restarts", "requeued"),
    [
        ("kill -USR1 $$", "RUNNING", 2, True),
        ("kill -TERM $$", "RUNNING", 0, True),
        ("kill -USR1 $$", "RUNNING", 3, False),
        ("kill -TERM $$", "CANCELLED", 0, False),
        ("kill -KILL $$", "RUNNING", 0, False),
        ("exit 0", "RUNNING", 0, False),
        ("exit 1", "RUNNING", 0, False),
        ("exit 2", "RUNNING", 0, False),
    ],
)
def test_only_an_interrupted_task_goes_back_into_the_queue(
    tmp_path: Path, packing: str, state: str, restarts: int, requeued: bool
) -> None:
    script = render_pack(with_python(JOB, tmp_path, packing))
    task = run(script, tmp_path, state=state, restarts=restarts)
    task.communicate(timeout=60)
    said = tmp_path / "said"
    assert (said.read_text() if said.exists() else "") == ("requeue 40_2\n" if requeued else "")
    asked = packing.split()[1]
    assert task.returncode == (int(asked) if asked.isdecimal() else 128 + signals()[asked])


def signals() -> dict[str, int]:
    return {f"-{name}": getattr(signal, f"SIG{name}") for name in ("USR1", "TERM", "KILL")}


@pytest.mark.parametrize("warning", [signal.SIGUSR1, signal.SIGTERM])
def test_a_warning_ends_the_packing_and_the_task_is_requeued(
    tmp_path: Path, warning: signal.Signals
) -> None:
    begun = tmp_path / "begun"
    packing = f"touch {shlex.quote(str(begun))}; exec sleep 300"
    task = run(render_pack(with_python(JOB, tmp_path, packing)), tmp_path, state="RUNNING")
    wait_until(begun.exists, 60, "the packing")
    task.send_signal(warning)
    task.communicate(timeout=60)
    assert (tmp_path / "said").read_text() == "requeue 40_2\n"


def test_a_container_sees_the_corpus_the_shards_and_the_working_folder() -> None:
    site = SiteConfig(container="a.sif", container_runtime="apptainer", mounts=["/models"])
    packs = render_pack(replace(JOB, site=site, gpus_per_task=1))
    assert (
        "apptainer exec --nv --bind /home/me/work --bind /data/shards --bind /corpora "
        "--bind /models --pwd /home/me/work a.sif"
    ) in packs
    assert "apptainer exec --bind /home/me/work --bind /data/shards" in render_merge(
        replace(JOB, site=site, gpus_per_task=1)
    )


def test_a_container_starts_in_the_working_folder_wherever_that_lies(tmp_path: Path) -> None:
    site = SiteConfig(container="image")
    inner = tmp_path / "inner"
    script = render_pack(replace(JOB, site=site, source=tmp_path, working_folder=inner))
    assert f"--container-mounts=/data/shards:/data/shards,{tmp_path}:{tmp_path} " in script
    assert f"--container-workdir={inner}" in script


def test_a_value_that_would_break_its_line_is_refused() -> None:
    for render in (render_pack, render_merge):
        with pytest.raises(UserError, match=r"--partition=.* cannot stand in a job script"):
            render(replace(JOB, site=SiteConfig(partition="a\n#SBATCH --nodes=9")))


@pytest.mark.parametrize("container", [None, "a b"])
def test_shellcheck_finds_nothing(container: str | None) -> None:
    needs(["shellcheck"])
    job = replace(JOB, site=SiteConfig(container=container), gpus_per_task=1)
    for render in (render_pack, render_merge):
        done = subprocess.run(
            ["shellcheck", "-"], check=False, input=render(job), capture_output=True, text=True
        )
        assert done.stdout == ""
