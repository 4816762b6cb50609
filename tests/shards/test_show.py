"""`segue shards show` and `play`, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from shards.cli import app
from shards.errors import UserError
from shards.index import Index


def test_a_clip_is_shown_and_written_as_it_was_packed(voiced_shards: Path, tmp_path: Path) -> None:
    index = Index.open(voiced_shards)
    key, seconds = index.key(3), float(index.seconds[3])
    shown = CliRunner().invoke(app, ["show", str(voiced_shards), key])
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert lines[0] == key and f"  seconds: {seconds:.3f}" in lines
    assert any(line.startswith("  content.npy: float16 [39 x ") for line in lines)

    out = tmp_path / "new" / "clip.wav"
    played = CliRunner().invoke(app, ["play", str(voiced_shards), key, "--out", str(out)])
    assert played.exit_code == 0, played.output
    samples, rate = soundfile.read(out)
    assert rate == 22_050 and abs(len(samples) / rate - seconds) < 1e-3 and samples.std() > 0.05


def test_a_clip_that_is_not_there_is_one_sentence(voiced_shards: Path) -> None:
    found = CliRunner().invoke(app, ["show", str(voiced_shards), "nobody"])
    assert found.exit_code and "has no clip nobody" in str(found.exception or found.output)


def test_a_folder_without_shards_is_named_as_the_command_does(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["show", str(tmp_path), "any"])
    assert str(found.exception).startswith(f"SHARDS: {tmp_path} holds no index.arrow")


def test_a_clip_that_cannot_be_heard_or_written_is_one_sentence(
    voiced_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["play", str(voiced_shards), Index.open(voiced_shards).key(3)]
    found = CliRunner().invoke(app, [*words, "--out", "/proc/x.wav"]).exception
    assert isinstance(found, UserError) and "--out /proc/x.wav cannot be written" in str(found)
    player = tmp_path / "aplay"
    player.write_text("#!/bin/sh\nexit 1\n")
    player.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = CliRunner().invoke(app, words).exception
    assert isinstance(found, UserError) and "aplay could not play" in str(found)
