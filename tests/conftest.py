"""Options and fixtures that several rooms' tests share."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from shards.pack import PackOptions, pack
from shards.sources.experiment_folder import SEMANTIC, TEXT, symbol_ids

GOLDENS = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--goldens", default=str(GOLDENS), help="folder of oracle files for tests/golden"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; run it with `make test-slow`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "slow" in config.getoption("-m"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run it with `make test-slow`"))


def write_experiment(folder: Path, clips: int, seed: int = 0) -> Path:
    """A prepared GPT-SoVITS experiment: each token repeats, so that it can be learnt."""
    chance = random.Random(seed)
    symbols = list(symbol_ids("v2"))
    texts, tokens = [], ["item_name\tsemantic_audio"]
    for number in range(clips):
        name = f"clip_{number:04d}.wav"
        length = round(25 * min(8.0, max(1.0, chance.lognormvariate(1.0, 0.5))))
        phonemes = [chance.choice(symbols) for _ in range(max(2, length // 3))]
        texts.append(f"{name}\t{' '.join(phonemes)}\tNone\ttext {number}")
        units = [chance.randrange(20) for _ in range(length // 5 + 1) for _ in range(5)]
        tokens.append(f"{name}\t{' '.join(map(str, units[:length]))}")
    folder.mkdir(parents=True)
    (folder / TEXT).write_text("\n".join(texts) + "\n", encoding="utf-8")
    (folder / SEMANTIC).write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def token_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of shards with 120 clips of 1 to 8 s of tokens."""
    root = tmp_path_factory.mktemp("tokens")
    source = write_experiment(root / "experiment", clips=120)
    pack(source, root / "shards", PackOptions(shard_hours=0.02, workers=2), say=lambda _: None)
    return root / "shards"
