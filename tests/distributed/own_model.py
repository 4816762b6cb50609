"""A model of a user's own: the next speech token from those before, by a GRU.

``model.name=own_model:GruConfig`` trains it like the families that Segue brings along.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pretrain.models.growth import Growth
from pretrain.models.protocol import Family, Guide
from shards import fields
from shards.census import Census
from shards.collate import Batch
from shards.corpus import Corpus


class GruConfig(Family):
    """``model``: its sizes, with their defaults."""

    name: Literal["own_model:GruConfig"] = "own_model:GruConfig"
    vocab_size: int = 1024
    width: int = 32

    def fields(self) -> tuple[fields.Field, ...]:
        return (fields.Field("semantic.npy", pad=0, dtype="int64"),)

    def targets(self, corpus: Corpus, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return corpus.gather("semantic", rows).astype(np.int64) - 1

    def check(self, census: Census) -> None:
        fields.require(census, self.fields(), self.name)

    def build(self) -> Gru:
        return Gru(self)


class Gru(nn.Module):
    def __init__(self, config: GruConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.gru = nn.GRU(config.width, config.width, batch_first=True)
        self.head = nn.Linear(config.width, config.vocab_size)

    def components(self) -> dict[str, tuple[str, ...]]:
        return {"embedding": ("embedding.",), "decoder": ("gru.", "head.")}

    def growth(self) -> Growth:
        return Growth()

    def unused(self) -> tuple[str, ...]:
        return ()

    def outputs(self, batch: Batch) -> Tensor:
        tokens = batch.arrays["semantic"]
        return self.head(self.gru(self.embedding(tokens[:, :-1]))[0])

    def forward(self, batch: Batch, guide: Guide | None = None) -> dict[str, Tensor]:
        targets, lengths = batch.arrays["semantic"][:, 1:], batch.lengths["semantic"]
        logits = self.outputs(batch).float().transpose(1, 2)
        losses = nn.functional.cross_entropy(logits, targets, reduction="none")
        counts = torch.arange(targets.shape[1], device=targets.device) < lengths[:, None] - 1
        return {"loss": (losses * counts).sum(1)}
