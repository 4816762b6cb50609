"""``segue submit-pack``: what is refused before the queue, and packing on a real SLURM."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from experiment_corpus import write_experiment
from two_nodes import Cluster
from typer.testing import CliRunner

from shards.errors import UserError
from shards.pack.config import PackConfig
from shards.pack.job import pack
from shards.settings import load
from shards.verify import verify
from slurm.cli import app

SETTINGS = ("shard_hours=0.002", "seed=3")
SETTLED = PackConfig(shard_hours=0.002, seed=3)
ASKED = ("--tasks", "2", "--cpus-per-task", "1", "--time", "10")


@dataclass(frozen=True)
class Submitted:
    array: str
    merge: str
    out: Path

    @property
    def folder(self) -> Path:
        """Of the only submission."""
        (script,) = self.out.glob("slurm/*/pack.sh")
        return script.parent


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny corpus, in the user's working folder."""
    folder = tmp_path / "the user's 100% work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    write_experiment(folder / "corpus", clips=40)
    return Path("corpus")


def segue(*arguments: object) -> str:
    """What the command prints."""
    words = ["submit-pack", *map(str, arguments)]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def submitted(source: Path, out: Path) -> Submitted:
    said = segue(source, out, *SETTINGS, *ASKED)
    ids = re.search(r"^submitted jobs (\d+) \(2 parts\) and (\d+) \(their merge\)", said)
    assert ids, said
    return Submitted(ids[1], ids[2], out)


def fake_slurm(folder: Path, merge: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """sbatch that takes the array as job 7, and does ``merge`` with the other; what is said."""
    folder.mkdir()
    said = folder / "said"
    sbatch = f'case "$*" in *pack.sh) echo 7 ;; *) {merge} ;; esac'
    for name, text in {"sbatch": sbatch, "scancel": ":", "scontrol": ":"}.items():
        program = folder / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> "{said}"\n{text}\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return said


def tree(folder: Path) -> dict[str, bytes]:
    """What packing has written, but for what it keeps of its work and SLURM's folder."""
    names = ("*.tar", "index.arrow", "rejects.parquet", "pack.json")
    return {path.name: path.read_bytes() for name in names for path in folder.glob(name)}


def test_two_tasks_and_a_merge_give_what_packing_alone_gives(
    corpus: Path, on_cluster: Cluster
) -> None:
    pack(corpus, Path("alone"), SETTLED, workers=0)
    job = submitted(corpus, Path("shards"))
    assert on_cluster.state_at_end(job.merge, 90) == "COMPLETED"
    assert len(tree(Path("shards"))) > 4
    assert tree(Path("shards")) == tree(Path("alone"))
    for part in (1, 2):
        log = (job.out / "slurm" / f"pack-{job.array}_{part}.out").read_text()
        assert f"part {part}/2 is there" in log
    assert "40 clips" in (job.out / "slurm" / f"merge-{job.merge}.out").read_text()
    assert not any(checked.damage for checked in verify(job.out, 1))
    report = pack(corpus, job.out, SETTLED, workers=0)
    assert report is not None and report.clips == 40
    assert tree(Path("shards")) == tree(Path("alone"))


def test_a_mistake_that_shows_in_the_job_ends_all_of_it(corpus: Path, on_cluster: Cluster) -> None:
    for file in corpus.iterdir():
        file.write_text("")
    job = submitted(corpus, Path("shards"))
    assert on_cluster.state_at_end(job.merge, 60) == "CANCELLED"
    task = on_cluster.ask("scontrol", "show", "job", f"{job.array}_2")
    for fact in ("JobState=FAILED", "Restarts=0", "ExitCode=2:0"):
        assert fact in task
    log = (job.out / "slurm" / f"pack-{job.array}_2.out").read_text()
    assert "error: SOURCE: " in log
    assert "lists no clips" in log


def test_a_dry_run_prints_both_scripts_and_touches_nothing(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    before = set(Path.cwd().iterdir())
    scripts = segue(corpus, "shards", *ASKED, "--gpus-per-task", "1", "--dry-run")
    assert scripts.count("#!/bin/bash\n") == 2
    assert "#SBATCH --array=1-2\n" in scripts
    assert "#SBATCH --gpus-per-task=1\n" in scripts
    assert set(Path.cwd().iterdir()) == before


def test_the_queued_jobs_keep_the_code_and_the_settings_of_their_submission(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine.yaml").write_text("shard_hours: 0.002\nseed: 1\n")
    said = fake_slurm(tmp_path / "slurm", "echo 8", monkeypatch)
    out = Path("shards").absolute()
    told = segue(corpus, "shards", "seed=3", "--config", "mine.yaml", *ASKED)
    job = Submitted("7", "8", out)
    assert load(PackConfig, job.folder / "config.yaml") == SETTLED
    assert (job.folder / "code" / "shards" / "pack" / "job.py").is_file()
    assert said.read_text().splitlines() == [
        f"sbatch --parsable --hold {job.folder}/pack.sh",
        f"sbatch --parsable --dependency=afterok:7,singleton {job.folder}/merge.sh",
        "scontrol release 7",
    ]
    assert "squeue --jobs=7,8" in told


def test_a_refused_merge_takes_the_array_with_it(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = fake_slurm(tmp_path / "slurm", "echo QOSMax >&2; exit 1", monkeypatch)
    with pytest.raises(UserError, match=r"^sbatch refused: QOSMax$"):
        segue(corpus, "shards", *ASKED)
    assert said.read_text().splitlines()[-1] == "scancel 7"
    assert not Path("shards").exists()


def test_what_was_in_out_before_a_refusal_stays(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("shards").mkdir()
    fake_slurm(tmp_path / "slurm", "exit 1", monkeypatch)
    with pytest.raises(UserError, match=r"^sbatch refused"):
        segue(corpus, "shards", *ASKED)
    assert list(Path("shards").iterdir()) == []
    with pytest.raises(UserError, match=r"^sbatch refused"):
        segue(corpus, "all/of/it", *ASKED)
    assert not Path("all").exists()


def test_a_merge_that_may_be_queued_keeps_its_folder_and_takes_the_array_with_it(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = fake_slurm(tmp_path / "slurm", "echo Socket timed out >&2; exit 1", monkeypatch)
    with pytest.raises(UserError, match=r"timed out: the job may be queued .*/merge\.sh$"):
        segue(corpus, "shards", *ASKED)
    assert said.read_text().splitlines()[-1] == "scancel 7"
    assert (Submitted("7", "", Path("shards")).folder / "merge.sh").is_file()


def test_a_job_that_could_not_be_cancelled_is_named(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_slurm(tmp_path / "slurm", "echo QOSMax >&2; exit 1", monkeypatch)
    (tmp_path / "slurm" / "scancel").write_text("#!/bin/sh\necho gone >&2; exit 1\n")
    with pytest.raises(UserError, match=r"QOSMax; and scancel refused: gone, .*'scancel 7'"):
        segue(corpus, "shards", *ASKED)
    assert (Submitted("7", "", Path("shards")).folder / "pack.sh").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("gone", "shards"), r"SOURCE: gone does not exist"),
        (("corpus", "shards", "shard_hour=1"), r"unknown key shard_hour; did you mean shard_hours"),
        (("corpus", "shards", "--from", "tape"), r"--from tape: unknown"),
        (("corpus", "shards", "--features", "mell"), r"'mell' is unknown, did you mean mel"),
        (("corpus", "begun", "seed=4"), r"begun with other settings \(seed was 3 and is now 4\)"),
        (("corpus", "foreign"), r"OUT: foreign holds an index of another origin"),
        (("corpus", "shards", "--time", "2"), r"--time 2: a task is warned"),
    ],
)
def test_what_would_stop_the_packing_never_enters_the_queue(
    corpus: Path, words: tuple[str, ...], sentence: str
) -> None:
    pack(corpus, Path("begun"), SETTLED, workers=0)
    Path("foreign").mkdir()
    Path("foreign", "index.arrow").touch()
    shard_hours = () if "shard_hour=1" in words else ("shard_hours=0.002",)
    with pytest.raises(UserError, match=sentence):
        segue(*ASKED, *words, *shard_hours)
    assert not Path("shards").exists()


def test_a_folder_that_is_begun_may_be_submitted_again(corpus: Path) -> None:
    pack(corpus, Path("shards"), SETTLED, workers=0)
    assert "--array=1-2" in segue(corpus, "shards", *SETTINGS, *ASKED, "--dry-run")


def test_the_command_ends_with_2_and_no_traceback(corpus: Path) -> None:
    command = [sys.executable, "-m", "slurm", "submit-pack", "gone", "shards", *ASKED]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: SOURCE: gone does not exist; name a corpus\n"
