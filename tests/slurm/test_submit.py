"""``segue submit``: what is refused before the queue, and jobs on a real SLURM of two nodes."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from two_nodes import Cluster
from typer.testing import CliRunner

from pretrain.config import load
from shards.errors import UserError
from slurm.cli import app
from slurm.script import Resources, render
from slurm.site import SiteConfig
from slurm.submit import Prepared, prepare, sbatch, submit_job

TWO_CPU_NODES = Resources(
    nodes=2, gpus_per_node=0, processes_per_node=1, cpus_per_node=0, time="10"
)
TWO_GPU_NODES = replace(TWO_CPU_NODES, gpus_per_node=2, processes_per_node=2)
ASK_TWO_CPU_NODES = ("--nodes", "2", "--gpus-per-node", "0", "--time", "10")


def prepared_of(tiny: list[str], resources: Resources, *overrides: str) -> Prepared:
    config, *settings = tiny
    return prepare(Path(config), [*settings, *overrides], resources, SiteConfig())


def segue_submit(*arguments: str) -> str:
    """What the command prints."""
    done = CliRunner().invoke(app, ["submit", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def fake_sbatch(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(folder / "sbatch", f"#!/bin/sh\n{text}\n")
    monkeypatch.setenv("PATH", str(folder))


def test_gpus_are_asked_for_where_this_machine_has_none(tiny: list[str]) -> None:
    prepared = prepared_of(tiny, TWO_GPU_NODES)
    assert prepared.config.device == "cuda"
    assert "--gpus-per-node=2" in render(prepared.job)


def test_a_job_without_gpus_trains_on_cpu(tiny: list[str]) -> None:
    assert prepared_of(tiny, TWO_CPU_NODES).config.device == "cpu"


def test_every_process_and_loader_worker_gets_a_core(tiny: list[str]) -> None:
    job = prepared_of(tiny, TWO_GPU_NODES, "data.workers=3").job
    assert job.resources.cpus_per_node == 2 * (1 + 3)


def test_the_zero_stage_chooses_the_accelerate_file(tiny: list[str]) -> None:
    job = prepared_of(tiny, TWO_GPU_NODES, "deepspeed.stage=3").job
    assert job.accelerate_config == "zero3.yaml"


@pytest.mark.parametrize(
    ("override", "resources", "sentence"),
    [
        ("device=cpu", TWO_GPU_NODES, "device=cpu but --gpus-per-node 2"),
        ("device=cuda", TWO_CPU_NODES, "device=cuda but --gpus-per-node 0"),
        ("seed=0", replace(TWO_GPU_NODES, gpus_per_node=1), "--nproc-per-node 2 but --gpus-per"),
        ("seed=0", replace(TWO_GPU_NODES, cpus_per_node=1), "--cpus-per-node 1 for 2 processes"),
        ("seed=0", replace(TWO_CPU_NODES, nodes=3), "3 processes do not divide the 4 micro-b"),
        ("data.path=nowhere", TWO_GPU_NODES, "nowhere"),
        ("train.stepz=1", TWO_GPU_NODES, "did you mean train.steps"),
    ],
)
def test_what_would_stop_the_run_never_enters_the_queue(
    tiny: list[str], override: str, resources: Resources, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        prepared_of(tiny, resources, override)


def test_a_dry_run_prints_the_script_touches_nothing_and_needs_no_slurm(
    tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    before = set(Path.cwd().iterdir())
    script = segue_submit(*tiny, *ASK_TWO_CPU_NODES, "--dry-run")
    assert "#SBATCH --job-name=tiny\n" in script
    assert set(Path.cwd().iterdir()) == before


def test_a_queued_job_keeps_the_code_and_the_config_of_its_submission(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    fake_sbatch(programs, "echo 7", monkeypatch)
    assert submit_job(prepared_of(tiny, TWO_CPU_NODES, "seed=5")) == "7"
    folder = next(Path("runs/tiny/slurm").absolute().glob("*-*"))
    assert load(folder / "config.yaml") == load(
        Path("run.yaml"), [*tiny[1:], "seed=5", "device=cpu"]
    )
    where = "import pretrain.config as a, slurm.after as b; print(f'{a.__file__}\\n{b.__file__}')"
    environment = {**os.environ, "PYTHONPATH": f"{folder}/code", "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", where], env=environment, capture_output=True, text=True, check=True
    )
    for path in done.stdout.splitlines():
        assert path.startswith(f"{folder}/code/")


def test_what_follows_the_job_can_be_pasted_into_a_shell(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    fake_sbatch(programs, "echo 7", monkeypatch)
    last = segue_submit(*tiny, *ASK_TWO_CPU_NODES).splitlines()[-1]
    run = Path("runs/tiny").absolute()
    assert "'" in str(run)
    assert shlex.split(last.removeprefix("follow it: ")) == ["segue", "logs", str(run), "-f"]


@pytest.mark.parametrize("there", ["", "runs", "runs/tiny", "runs/tiny/slurm/20260101-000000"])
def test_a_refused_job_leaves_only_what_was_there(
    there: str, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(there).mkdir(parents=True, exist_ok=True)
    before = set(Path.cwd().rglob("*"))
    programs = tmp_path / "programs"
    programs.mkdir()
    fake_sbatch(programs, "exit 1", monkeypatch)
    with pytest.raises(UserError, match=r"sbatch refused: it gave no reason$"):
        submit_job(prepared_of(tiny, TWO_CPU_NODES))
    assert set(Path.cwd().rglob("*")) == before


@pytest.mark.parametrize(
    ("does", "sentence"),
    [
        (
            "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv "
            "operation' >&2; exit 1",
            r"Socket timed out on send/recv operation: the job may be queued all the same; "
            r"'squeue --me' tells, its script is .*/job\.sh$",
        ),
        ("kill -9 $$", r"sbatch was ended by signal 9: the job may be queued all the same"),
    ],
)
def test_a_job_that_may_be_queued_keeps_its_folder(
    does: str, sentence: str, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    fake_sbatch(programs, does, monkeypatch)
    prepared = prepared_of(tiny, TWO_CPU_NODES)
    with pytest.raises(UserError, match=sentence):
        submit_job(prepared)
    kept = {path.name for path in prepared.job.submitted.iterdir()}
    assert kept == {"job.sh", "config.yaml", "code"}


def test_a_job_whose_submission_is_interrupted_keeps_its_folder(
    tiny: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    fake_sbatch(programs, "kill -INT $PPID; exec /bin/sleep 20", monkeypatch)
    prepared = prepared_of(tiny, TWO_CPU_NODES)
    with pytest.raises(KeyboardInterrupt):
        submit_job(prepared)
    assert (prepared.job.submitted / "job.sh").is_file()
    assert "interrupted: the job may be queued all the same" in capsys.readouterr().err


def test_site_defaults_come_after_the_command_line(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "segue").mkdir()
    defaults = "partition: gpu\naccount: lab\ntime: '30'\ngpus_per_node: 0\nsbatch: [--exclusive]\n"
    (tmp_path / "segue" / "slurm.yaml").write_text(defaults)
    script = segue_submit(*tiny, "--account", "mine", "--sbatch=--nice=5", "--dry-run")
    for line in ("partition=gpu", "account=mine", "time=30", "exclusive", "nice=5", "nodes=1"):
        assert f"#SBATCH --{line}\n" in script
    (tmp_path / "segue" / "slurm.yaml").write_text("partion: gpu\n")
    with pytest.raises(
        UserError, match=r"slurm\.yaml: unknown key partion; did you mean partition"
    ):
        segue_submit(*tiny, *ASK_TWO_CPU_NODES, "--dry-run")


def test_what_neither_says_is_asked_for(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(
        UserError, match=r"--time is missing; give it, or set time in .*slurm\.yaml"
    ):
        segue_submit(*tiny, "--gpus-per-node", "0", "--dry-run")


def test_a_missing_sbatch_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="sbatch is not on PATH; run this on a login node"):
        sbatch(tmp_path / "job.sh")


def test_a_refusal_gives_sbatchs_own_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "sbatch: error: QOSMaxNodes\\nsbatch: error: Batch job submission failed: Job violates"
    fake_sbatch(tmp_path, f"printf '{said}\\n' >&2; exit 1", monkeypatch)
    with pytest.raises(UserError, match=r"QOSMaxNodes; Batch job submission failed: Job violates$"):
        sbatch(tmp_path / "job.sh")


def test_the_job_id_is_read_with_and_without_a_clusters_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for said in ("4711", "4711;east"):
        fake_sbatch(tmp_path, f"echo '{said}'", monkeypatch)
        assert sbatch(tmp_path / "job.sh") == "4711"


def test_the_command_ends_with_2_and_no_traceback(tiny: list[str]) -> None:
    command = [sys.executable, "-m", "slurm", "submit", *tiny, "device=cuda", *ASK_TWO_CPU_NODES]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: device=cuda but --gpus-per-node 0")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--partition", "no such"), "invalid partition specified: no such"),
        (("--cpus-per-node", "400"), "More processors requested than permitted"),
        (("--time", "2-00:00"), "Requested time limit is invalid"),
    ],
)
def test_slurms_reason_for_a_refusal_is_one_sentence(
    on_cluster: Cluster, tiny: list[str], options: tuple[str, ...], reason: str
) -> None:
    command = [sys.executable, "-m", "slurm", "submit", *tiny, *ASK_TWO_CPU_NODES, *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith("error: sbatch refused: ") and reason in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not Path("runs").exists()
