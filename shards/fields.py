"""What a model wants of each clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shards.errors import UserError
from shards.index import Index


@dataclass(frozen=True)
class Field:
    """One array member of a clip: ``phonemes.npy``, its padding value and its dtype in a batch."""

    member: str
    pad: float
    dtype: str
    required: bool = True

    @property
    def name(self) -> str:
        """The member without its extension; also its length column in the index."""
        return self.member.rsplit(".", 1)[0]


def require(index: Index, fields: tuple[Field, ...], model: str) -> None:
    """UserError if the shards lack a member that the model cannot do without."""
    for field in fields:
        if not field.required:
            continue
        known = field.name in index.about["lengths"]
        without = np.flatnonzero(index.lengths(field.name) == 0) if known else np.zeros(1, int)
        if len(without):
            raise UserError(
                f"data.path: clip {index.key(int(without[0]))} in {index.folder} has no "
                f"{field.member}, which model {model} needs; pack the corpus again with it"
            )
