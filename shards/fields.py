"""What a model wants of each clip."""

from __future__ import annotations

from dataclasses import dataclass

from shards.census import Census
from shards.errors import UserError
from shards.index import Index


@dataclass(frozen=True)
class Field:
    """One member of a clip: ``phonemes.npy``, its padding value and its dtype in a batch.

    The member ``audio`` is the clip's audio of whatever format, as samples [length]; they are
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
        row = census.first_without(field.name)
        if row >= 0:
            source, local = census.corpus.source_of(row)
            raise UserError(
                f"data.path: clip {source.index.key(local)} in {source.index.folder} has no "
                f"{field.member}, which model {model} needs; pack the corpus again with it, or "
                "leave such clips out with data.filter"
            )


def _everywhere(index: Index, name: str) -> bool:
    return name in index.about["lengths"] and index.about["shortest"][name] > 0
