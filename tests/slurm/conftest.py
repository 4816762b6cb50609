"""What the tests of SLURM share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from two_nodes import Cluster, two_nodes


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real SLURM of two nodes; skips where it is not installed."""
    with two_nodes() as found:
        yield found
