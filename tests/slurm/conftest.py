"""What the tests of SLURM share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from two_nodes import Cluster, two_nodes

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real SLURM of two nodes; skips where it is not installed."""
    with two_nodes() as found:
        yield found


@pytest.fixture(autouse=True)
def no_site_of_this_user(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever this machine's user has set for their own cluster."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))


@pytest.fixture(scope="session")
def on_cluster(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster as the one that sbatch talks to; its nodes' names do not resolve."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(cluster.conf))
        patch.setenv("SEGUE_HEAD_ADDRESS", "127.0.0.1")
        yield cluster


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
