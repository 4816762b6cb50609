"""What a model wants of each clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shards.corpus import Corpus
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


def require(corpus: Corpus, fields: tuple[Field, ...], model: str) -> None:
    """UserError if shards lack a member that the model cannot do without."""
    for source in corpus.sources:
        for field in fields:
            if field.required:
                _require(source.index, field, model)


def _require(index: Index, field: Field, model: str) -> None:
    known = field.name in index.about["lengths"]
    if known and index.about["shortest"][field.name] > 0:
        return
    without = int(np.flatnonzero(index.lengths(field.name) == 0)[0]) if known else 0
    raise UserError(
        f"data.path: clip {index.key(without)} in {index.folder} has no {field.member}, which "
        f"model {model} needs; pack the corpus again with it"
    )
