"""What a corpus looks like to the packer, wherever it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from shards.errors import UserError

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Utterance:
    """A clip before it is packed. ``name`` is what the corpus calls it, ``audio`` its file."""

    name: str
    seconds: float
    speaker: str
    language: str
    text: str
    audio: Path | None

    @property
    def key(self) -> str:
        """The name as a shard's key: WebDataset ends a key at the first dot."""
        return self.name.replace("%", "%25").replace(".", "%2E")


@dataclass(frozen=True)
class Reject:
    """A clip that does not get in: what it is called, why, and the figure that decided."""

    name: str
    reason: str
    figure: str = ""


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file, with or without a byte-order mark; UserError for another."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"SOURCE: {path} is not UTF-8 ({error}); convert it") from error


class Source(Protocol):
    """A corpus on disk. Picklable: worker processes read from it."""

    @property
    def path(self) -> Path:
        """The file or folder that the corpus is."""
        ...

    @property
    def default_features(self) -> tuple[str, ...]:
        """What has to be computed for the models that this kind of corpus is for."""
        ...

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether ``path`` is a corpus of this kind."""
        ...

    def utterances(self) -> Iterator[Utterance | Reject]:
        """Every clip of the corpus in a fixed order, from metadata alone."""
        ...

    def arrays(self, utterance: Utterance) -> Arrays:
        """The members that the corpus already holds, by member name; ValueError if broken."""
        ...
