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
    resampled to ``sample_rate`` unless that is None. ``shape`` is what an array must be, axis by
    axis: a setting and its value, or None for any length.
    """

    member: str
    pad: float
    dtype: str
    required: bool = True
    sample_rate: int | None = None
    shape: tuple[tuple[str, int] | None, ...] | None = None

    def mistaken(self, found: tuple[int, ...]) -> str | None:
        """What is wrong with an array of the shape ``found``, if something is."""
        wanted = self.shape
        if wanted is None or (
            len(found) == len(wanted)
            and all(
                axis is None or axis[1] == size for axis, size in zip(wanted, found, strict=True)
            )
        ):
            return None
        names = ("any length" if axis is None else f"{axis[0]}={axis[1]}" for axis in wanted)
        given = " x ".join(map(str, found))
        return f"{self.member} has the shape {given} where {' x '.join(names)} is expected"

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
                f"{_named(source.index, local)} has no {field.member}, which model {model} needs; "
                f"{_remedy(field.name, source.index)}"
            )


def refuse_shorter(census: Census, seconds: float, model: str) -> None:
    """UserError if a clip that a run takes is shorter than the model can do with."""

    def long_enough(index: Index, start: int, stop: int) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = index.column("seconds").slice(start, stop) >= seconds
        return found

    row = census.first_without(long_enough)
    if row >= 0:
        source, local = census.corpus.source_of(row)
        lasts = float(census.corpus.seconds(np.array([row]))[0])
        raise UserError(
            f"{_named(source.index, local)} lasts {lasts:.3f} s, too short for model {model}; "
            f"set data.min_seconds={seconds:.2g}"
        )


def _named(index: Index, row: int) -> str:
    return f"data.path: clip {index.key(row)} in {index.folder}"


def _remedy(name: str, index: Index) -> str:
    if name == AUDIO:
        return "pack the corpus again with audio.store=flac"
    again = "pack the corpus again with it"
    some = name in index.about["lengths"]
    return f"{again}, or leave such clips out with data.filter" if some else again


def _everywhere(index: Index, name: str) -> bool:
    return name in index.about["lengths"] and index.about["shortest"][name] > 0


def _holds(name: str, index: Index, start: int, stop: int) -> npt.NDArray[np.bool_]:
    if name == AUDIO:
        return index.have_member(AUDIO_FORMATS, start, stop)
    if name not in index.about["lengths"]:
        return np.zeros(stop - start, dtype=np.bool_)
    found: npt.NDArray[np.bool_] = index.column(name).slice(start, stop) > 0
    return found
