from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shards.cli import app
from shards.errors import UserError
from shards.index import Index

CONFIG = Path("configs/gpt_sovits_s1.yaml").resolve()  # its run.name is still to be given


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["plan", str(CONFIG), *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_promise_can_be_checked_from_outside(token_shards: Path) -> None:
    settings = [f"data.path={token_shards}", "batch.seconds=48", "batch.micro_seconds=12"]
    lines = shown(*settings, "--step", "0", "--steps", "14", "--json").splitlines()
    micro_batches = [json.loads(line) for line in lines]
    assert set(micro_batches[0]) == {
        *("step", "micro", "lane", "bucket", "keys", "seconds", "padded_seconds")
    }
    assert [(m["step"], m["micro"]) for m in micro_batches] == [
        (step, micro) for step in range(14) for micro in range(4)
    ]
    assert all(m["seconds"] <= m["padded_seconds"] <= 12 for m in micro_batches)
    seen = Counter(key for m in micro_batches for key in m["keys"])
    index = Index.open(token_shards)
    once = Counter(index.key(row) for row in range(120))
    assert not once - seen and max(seen.values()) <= 2  # an epoch and the next one's beginning

    again = shown(*settings, "--step", "9", "--json").splitlines()
    assert again == lines[36:40]


def test_without_json_it_is_a_table_with_the_padding(token_shards: Path) -> None:
    settings = [f"data.path={token_shards}", "batch.seconds=48", "batch.micro_seconds=12"]
    assert "padding" in shown(*settings).splitlines()[-1]


def test_a_wrong_key_in_its_sections_is_named(token_shards: Path) -> None:
    with pytest.raises(UserError, match=r"unknown key batch\.second; did you mean batch\.seconds"):
        shown(f"data.path={token_shards}", "batch.second=3")
    with pytest.raises(UserError, match=r"unknown key data\.curriculum\.0\.max_second; did you"):
        shown(f"data.path={token_shards}", "data.curriculum=[{max_second: 3}]")
