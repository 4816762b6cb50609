"""What a corpus looks like to the packer, wherever it comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy.typing as npt

from shards.audio import AudioPlace
from shards.errors import UserError

if TYPE_CHECKING:
    from shards.pack.config import PackConfig

Members = Mapping[str, "npt.NDArray[Any] | bytes"]
"""Files of a clip by extension: an array for ``.npy``, else the bytes."""


@dataclass(frozen=True)
class Recording:
    """A clip, or a long recording that packing will cut, as the corpus lists it.

    ``name`` is the corpus's own and unique in it; ``text`` is the transcript as it came. The audio
    counts from ``start`` seconds on, for ``seconds`` or to its end. ``facts`` go into the clip's
    .json, ``figures`` there and into the index; ``handle`` is for the source's own
    `Source.members` (JSON values, all three).
    """

    name: str
    audio: AudioPlace | None = None
    start: float = 0.0
    seconds: float | None = None
    text: str = ""
    speaker: str = ""
    language: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    handle: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reject:
    """A clip that does not get in: what it is called, why, the figure that decided, its file.

    Rejects are counted by ``reason``, which therefore holds no figures and no names.
    """

    name: str
    reason: str
    figure: str = ""
    file: str = ""


class Source(ABC):
    """A corpus on disk. Picklable: worker processes read members from it.

    A module in this folder with a subclass is all that another kind of corpus takes.
    """

    kind: ClassVar[str]
    """What ``--from`` calls it."""
    about: ClassVar[str]
    """What such a corpus looks like, for help and messages: a phrase."""
    catches: ClassVar[int] = 1
    """Recognition asks the kinds with the smallest number first: 1 has a mark of its own that no
    other kind has, 2 would also be a kind of 3."""
    default_audio: ClassVar[Literal["flac", "original", "none"]] = "flac"
    """How the audio is stored unless the user says otherwise."""
    tells_word2ph: ClassVar[bool] = False
    """Whether clips may have the fact ``word2ph``: how many phonemes each character has."""
    default_features: ClassVar[tuple[str, ...]] = ()
    """What has to be computed for the models that this kind of corpus is for."""

    def __init__(self, path: Path, config: PackConfig) -> None:
        """``path`` exists; UserError if it is not what ``kind`` says."""
        self.path = path

    @classmethod
    @abstractmethod
    def recognises(cls, path: Path) -> bool:
        """Whether ``path`` is a corpus of this kind; quick, whatever the corpus's size."""

    @abstractmethod
    def recordings(self) -> Iterator[Recording | Reject]:
        """Everything in the corpus in a fixed order, one at a time, from metadata alone."""

    def members(self, recording: Recording) -> Members:
        """Files that the corpus already holds for a clip; ValueError if they are broken.

        A recording whose corpus has any is never cut.
        """
        return {}


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 text file, with or without a byte-order mark; UserError for another.

    Lines end at line feeds alone: a text may hold other separators.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for line in file:
                yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(f"SOURCE: {path} is not UTF-8 ({error}); convert it") from error
