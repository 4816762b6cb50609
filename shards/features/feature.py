"""What a feature is to the packer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from shards.audio import Audio
from shards.clip import Clip


class Feature(Protocol):
    """Computes one member of a clip. Picklable: worker processes call it, each loading its models.

    Whatever a user can have got wrong (a folder without a model) is a UserError when it is made.
    """

    @property
    def member(self) -> str:
        """The name of the member it computes."""
        ...

    @property
    def needs_text(self) -> bool:
        """Whether a clip without text cannot have it."""
        ...

    @property
    def needs_audio(self) -> bool:
        """Whether a clip without audio cannot have it."""
        ...

    def compute(self, clip: Clip) -> npt.NDArray[Any] | None:
        """The member's array, its length along the last axis; None for a clip that goes without.

        ValueError, its reason without figures, for a clip that must not get in.
        """
        ...

    def about(self) -> dict[str, Any]:
        """What a reader of the shards must know, for the index."""
        ...


@runtime_checkable
class FittedFeature(Feature, Protocol):
    """A feature with a codebook fitted to a sample of the corpus before anything is packed."""

    @property
    def codebook(self) -> Path:
        """The file that `fit` writes and `compute` reads."""
        ...

    def frames(self, audio: Audio) -> npt.NDArray[np.float32]:
        """What it is fitted to, [frames, dimensions]; ValueError for audio that has none."""
        ...

    def fit(self, frames: Sequence[npt.NDArray[np.float32]]) -> None:
        """Write `codebook`, the same bytes for the same frames; UserError if they are too few."""
        ...
