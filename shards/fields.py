"""What a model wants of each clip."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from shards.census import Census
from shards.errors import UserError
from shards.index import AUDIO_FORMATS, Index

AUDIO = "audio"
"""The member that stands for a clip's audio in whatever format."""


@dataclass(frozen=True)
class Field:
    """One member of a clip: ``phonemes.npy``, its padding value and its dtype in a batch.

    The member `AUDIO` is the clip's audio of whatever format, as samples [length]; they are
    resampled to ``sample_rate`` unless that is None.
    """

    member: str
    pad: float
    dtype: str
    required: bool = True
    sample_rate: int | None = None

    @property
    def name(self) -> str:
        """The member without its extension; also its length column in the index."""
        return self.member.rsplit(".", 1)[0]


def require(census: Census, fields: tuple[Field, ...], model: str) -> None:
    """UserError if a clip that a run takes lacks a member that the model cannot do without."""
    for field in fields:
        sources = [source.index for source in census.corpus.sources]
        if not field.required or all(_everywhere(index, field.name) for index in sources):
            continue
        row = census.first_without(partial(_holds, field.name))
        if row >= 0:
            source, local = census.corpus.source_of(row)
            raise UserError(
                f"data.path: clip {source.index.key(local)} in {source.index.folder} has no "
                f"{field.member}, which model {model} needs; {_remedy(field.name)}"
            )


def _remedy(name: str) -> str:
    if name == AUDIO:
        return "pack the corpus again with audio.store=flac"
    return "pack the corpus again with it, or leave such clips out with data.filter"


def _everywhere(index: Index, name: str) -> bool:
    return name in index.about["lengths"] and index.about["shortest"][name] > 0


def _holds(name: str, index: Index, start: int, stop: int) -> npt.NDArray[np.bool_]:
    if name == AUDIO:
        return index.have_member(AUDIO_FORMATS, start, stop)
    if name not in index.about["lengths"]:
        return np.zeros(stop - start, dtype=np.bool_)
    found: npt.NDArray[np.bool_] = index.column(name).slice(start, stop) > 0
    return found
