"""``segue submit``: what is refused before the queue, and jobs on a real SLURM of two nodes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from two_nodes import Cluster
from typer.testing import CliRunner

from pretrain.checkpoint.manifest import Manifest
from pretrain.checkpoint.restore import check_files
from pretrain.checkpoint.store import LocalStore, newest
from shards.errors import UserError
from slurm.cli import app
from slurm.script import Job, Resources, render
from slurm.submit import job_for, sbatch, submit_job

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
TWO_CPU_NODES = Resources(
    nodes=2, gpus_per_node=0, processes_per_node=1, cpus_per_node=0, time="10"
)
TWO_GPU_NODES = replace(TWO_CPU_NODES, gpus_per_node=2, processes_per_node=2)
ASK_TWO_CPU_NODES = ("--nodes", "2", "--gpus-per-node", "0", "--time", "10")
FAILING_ON_NODE_1 = """\
#!/bin/bash
[[ "$*" == *"--machine_rank 1"* ]] && exit 3
sleep 600
"""
SPEAKING_ACCELERATE = """\
#!/bin/bash
printf '%s|' "$SLURMD_NODENAME" "$@"
echo
"""


@pytest.fixture
def tiny(token_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments of a tiny run in its own working folder: a config and overrides."""
    folder = tmp_path / "the user's work"
    folder.mkdir()
    (folder / "run.yaml").write_bytes(QUICKSTART.read_bytes())
    (folder / "shards").symlink_to(token_shards)
    monkeypatch.chdir(folder)
    model = ("model.hidden_dim=32", "model.head=2", "model.n_layer=1")
    batch = ("batch.seconds=48", "batch.micro_seconds=12", "batch.buckets=4")
    return [
        *("run.yaml", "run.name=tiny", "run.dir=runs", "data.path=shards"),
        *("train.steps=3", "train.log_every=1", *model, *batch),
    ]


@pytest.fixture
def on_cluster(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster as the one that sbatch talks to; its nodes' names do not resolve."""
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    monkeypatch.setenv("SEGUE_HEAD_ADDRESS", "127.0.0.1")
    return cluster


def job_of(tiny: list[str], resources: Resources, *overrides: str) -> Job:
    return job_for(Path(tiny[0]), [*tiny[1:], *overrides], resources)


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
    job = job_of(tiny, TWO_GPU_NODES)
    assert job.overrides[-1] == "device=cuda"
    assert "--gpus-per-node=2" in render(job)


def test_a_job_without_gpus_trains_on_cpu(tiny: list[str]) -> None:
    assert job_of(tiny, TWO_CPU_NODES).overrides[-1] == "device=cpu"


def test_every_process_and_loader_worker_gets_a_core(tiny: list[str]) -> None:
    job = job_of(tiny, TWO_GPU_NODES, "data.workers=3")
    assert job.resources.cpus_per_node == 2 * (1 + 3)


def test_the_zero_stage_chooses_the_accelerate_file(tiny: list[str]) -> None:
    job = job_of(tiny, TWO_GPU_NODES, "deepspeed.stage=3")
    assert job.accelerate_config.is_absolute()
    assert job.accelerate_config.name == "zero3.yaml"
    assert job.accelerate_config.is_file()


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
        job_of(tiny, resources, override)


def test_a_dry_run_prints_the_script_and_touches_nothing(tiny: list[str]) -> None:
    before = set(Path.cwd().iterdir())
    script = segue_submit(*tiny, *ASK_TWO_CPU_NODES, "--dry-run")
    assert script == render(job_of(tiny, TWO_CPU_NODES))
    assert set(Path.cwd().iterdir()) == before


def test_a_missing_sbatch_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="sbatch is not on PATH; run `segue submit` on a login"):
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


def test_slurm_refuses_a_partition_it_does_not_have(on_cluster: Cluster, tiny: list[str]) -> None:
    job = job_of(tiny, replace(TWO_CPU_NODES, partition="no such"))
    with pytest.raises(UserError, match=r"sbatch refused .*invalid partition specified: no such"):
        submit_job(job)


def test_a_job_reaches_every_node_with_that_nodes_rank(
    on_cluster: Cluster, tiny: list[str], tmp_path: Path
) -> None:
    job = replace(job_of(tiny, TWO_CPU_NODES), programs=tmp_path)
    write_program(tmp_path / "accelerate", SPEAKING_ACCELERATE)
    submitted = submit_job(replace(job, folder=job.folder / 'of "100 %j"'))
    assert on_cluster.state_at_end(submitted.job_id, 60) == "COMPLETED"
    lines = sorted(submitted.log.read_text().splitlines()[1:])
    assert [line.split("|")[:4] for line in lines] == [
        ["n1", "launch", "--machine_rank", "0"],
        ["n2", "launch", "--machine_rank", "1"],
    ]


def test_a_node_that_fails_ends_the_job(
    on_cluster: Cluster, tiny: list[str], tmp_path: Path
) -> None:
    write_program(tmp_path / "accelerate", FAILING_ON_NODE_1)
    submitted = submit_job(replace(job_of(tiny, TWO_CPU_NODES), programs=tmp_path))
    assert on_cluster.state_at_end(submitted.job_id, 60) == "FAILED"


def test_of_two_jobs_of_one_run_the_second_waits(on_cluster: Cluster, tiny: list[str]) -> None:
    job = job_of(tiny, replace(TWO_CPU_NODES, nodes=1), "run.name=twice")
    first, second = submit_job(job), submit_job(job)
    try:
        assert "Reason=Dependency" in on_cluster.ask("scontrol", "show", "job", second.job_id)
    finally:
        on_cluster.ask("scancel", second.job_id, first.job_id)
        on_cluster.state_at_end(first.job_id, 60)


@pytest.mark.slow
def test_two_nodes_train_and_the_same_command_resumes(on_cluster: Cluster, tiny: list[str]) -> None:
    for steps in (3, 5):
        said = segue_submit(*tiny, f"train.steps={steps}", *ASK_TWO_CPU_NODES)
        job_id = said.split()[2].rstrip(",")
        state = on_cluster.state_at_end(job_id, 300)
        log = Path(f"runs/tiny/slurm-{job_id}.out").read_text()
        assert state == "COMPLETED", log
        store = LocalStore(Path("runs/tiny/checkpoints"))
        name, manifest = next(newest(store))
        assert isinstance(manifest, Manifest)
        check_files(store, name, manifest.files.items())
        assert manifest.state.step == steps
        assert manifest.world_size == 2
    assert "resumed run tiny" in log
    assert "step 3 of 5" in log
