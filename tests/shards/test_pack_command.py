from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from test_pack import packed, tree_bytes, write_wave

from shards.errors import UserError
from shards.index import Index
from shards.pack.config import PackConfig
from shards.settings import load

SHIPPED = Path(__file__).parents[2] / "configs" / "pack.yaml"


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder tree of 12 clips of about 3 s."""
    root = tmp_path_factory.mktemp("voices") / "corpus"
    for number in range(12):
        write_wave(root / f"s{number % 3}" / f"{number}.wav", 3 + number / 10, number, rate=16_000)
    return root


def segue(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "shards", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def assert_one_sentence(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2, done
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for part in parts:
        assert part in done.stderr


def test_the_shipped_settings_are_the_defaults() -> None:
    assert load(PackConfig, SHIPPED) == PackConfig()
    listed = OmegaConf.to_container(OmegaConf.load(SHIPPED))
    assert isinstance(listed, dict)
    assert listed.keys() == PackConfig.model_fields.keys()
    for name, section in listed.items():
        if isinstance(section, dict):
            assert section.keys() == type(getattr(PackConfig(), name)).model_fields.keys()


def test_pack_verify_and_stats_from_the_command_line(voices: Path, tmp_path: Path) -> None:
    done = segue("pack", voices, tmp_path / "out", "audio.sample_rate=8000", "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert "12 clips, 0.01 h" in done.stdout
    assert "read, all as it was packed" in segue("verify", tmp_path / "out").stdout
    found = json.loads(segue("stats", tmp_path / "out", "--json").stdout)
    assert found["clips"] == 12
    shard = next((tmp_path / "out").glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:3000])
    done = segue("verify", tmp_path / "out")
    assert shard.name in done.stdout
    assert_one_sentence(done, "has 1 damaged shard,")


def test_mistakes_are_one_sentence(voices: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert_one_sentence(segue("pack", tmp_path / "gone", out), "SOURCE", "does not exist")
    assert_one_sentence(segue("pack", voices, out, "cut.max_second=3"), "cut.max_seconds")
    assert_one_sentence(segue("pack", voices, out, "--part", "5/4"), "--part 5/4")
    assert_one_sentence(segue("pack", voices, out, "--from", "tape"), "--from tape", "folder")
    assert_one_sentence(segue("pack", voices, out, "--features", "mell"), "mell", "mel")
    assert_one_sentence(segue("pack", voices, ""), "is empty", "write .")
    assert_one_sentence(segue("merge", tmp_path), "pack.json")
    assert_one_sentence(segue("index", tmp_path), "no .tar files")
    assert not out.exists()


def test_the_summary_counts_clips_without_text(voices: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(voices, corpus)
    first, *_ = sorted(corpus.rglob("*.wav"))
    first.with_suffix(".txt").write_text("words")
    done = segue("pack", corpus, tmp_path / "out")
    assert "11 clips without text" in done.stdout


def test_a_full_disk_is_one_sentence_and_leaves_finished_shards_valid(
    voices: Path, disk_of: Callable[[str], Path], tmp_path: Path
) -> None:
    small_disk = disk_of("400k")
    settings = ["shard_hours=0.001", "--workers", 1]
    done = segue("pack", voices, small_disk, *settings)
    assert_one_sentence(done, str(small_disk), "No space left", "make room")
    assert not list(small_disk.rglob("index.arrow"))
    whole = tmp_path / "whole"
    packed(voices, whole, PackConfig(shard_hours=0.001))
    expected = tree_bytes(whole)
    finished = tree_bytes(small_disk)
    assert all(expected[name] == content for name, content in finished.items())
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert segue("pack", voices, small_disk, *settings).returncode == 0
    assert tree_bytes(small_disk) == expected


def test_a_filter_of_the_index_is_checked_against_its_columns(voices: Path, tmp_path: Path) -> None:
    from shards.dataset import DataConfig, open_plan
    from shards.plan import BatchConfig

    packed(voices, tmp_path, PackConfig())
    batch = BatchConfig(seconds=8, micro_seconds=8)
    data = DataConfig(path=str(tmp_path), filter="snr_db > -99 and seconds < 3.55")
    plan = open_plan(data, batch, 0)
    micro = [plan.share(step) for step in plan.steps(0, plan.step_at(1))]
    rows = {int(row) for step in micro for one in step for row in one.rows if one.counted}
    index = Index.open(tmp_path)
    assert {float(index.seconds[row]) for row in rows} == {
        float(seconds) for seconds in index.seconds if seconds < 3.55
    }
    wrong = DataConfig(path=str(tmp_path), filter="snr > 1")
    with pytest.raises(UserError, match=r"has no column snr; did you mean snr_db\?"):
        open_plan(wrong, batch, 0)
