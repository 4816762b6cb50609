"""The options of GPT-SoVITS s1 and what it needs of the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pretrain.models.gpt_sovits_s1.flops import forward_flops
from pretrain.models.protocol import Family
from shards import fields
from shards.census import Census
from shards.corpus import Corpus
from shards.errors import UserError
from shards.index import Index

if TYPE_CHECKING:
    from pretrain.models.gpt_sovits_s1.model import S1


class S1Config(Family):
    """``model``: sizes under upstream's names; the defaults are s1longer-v2 (77.6 M parameters)."""

    name: Literal["gpt_sovits_s1"] = "gpt_sovits_s1"
    vocab_size: int = Field(
        default=1025, ge=4, description="semantic tokens and EOS, which is last"
    )
    phoneme_vocab_size: int = Field(default=732, ge=1)
    hidden_dim: int = Field(default=512, ge=2)
    head: int = Field(default=16, ge=1, description="attention heads")
    n_layer: int = Field(default=24, ge=1)
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="in layers and after positions; upstream fixes 0.1"
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="share of a target's weight that all tokens have alike"
    )
    alignment: Literal["first_token", "after_first"] = Field(
        default="first_token",
        description="whether the first semantic token is a target, as upstream does since July "
        "2025; after_first suits checkpoints trained before",
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> S1Config:
        if self.hidden_dim % self.head or self.hidden_dim % 2:
            raise ValueError(
                f"hidden_dim={self.hidden_dim} must be even and a multiple of head={self.head}"
            )
        return self

    @property
    def eos(self) -> int:
        """The end-of-sequence token: the last of the vocabulary."""
        return self.vocab_size - 1

    def fields(self) -> tuple[fields.Field, ...]:
        """Phoneme ids [P], semantic tokens at 25 Hz [S], optional BERT features [1024, P]."""
        return (
            fields.Field("phonemes.npy", pad=0, dtype="int64"),
            fields.Field("semantic.npy", pad=self.eos, dtype="int64"),
            fields.Field("bert.npy", pad=0, dtype="float32", required=False),
        )

    def targets(self, corpus: Corpus, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Each clip's semantic tokens and EOS."""
        eos = 1 if self.alignment == "first_token" else 0
        return corpus.gather("semantic", rows).astype(np.int64) + eos

    def flops(
        self, corpus: Corpus, rows: npt.NDArray[np.int64]
    ) -> Mapping[str, npt.NDArray[np.float64]]:
        """As `Counted`; all semantic tokens and EOS are read out, whatever the alignment."""
        phonemes, semantic = (corpus.gather(name, rows) for name in ("phonemes", "semantic"))
        bert = corpus.gather("bert", rows) if corpus.has("bert") else 0 * phonemes
        sizes = (self.hidden_dim, self.n_layer, self.vocab_size)
        return forward_flops(sizes, phonemes, semantic, bert)

    def check(self, census: Census) -> None:
        """UserError if the clips lack a member or hold ids beyond the vocabularies."""
        fields.require(census, self.fields(), self.name)
        for source in census.corpus.sources:
            self._check_ids(source.index)

    def _check_ids(self, index: Index) -> None:
        largest = index.about["largest"]
        for member, key, needed in (
            ("phonemes", "phoneme_vocab_size", largest.get("phonemes", 0) + 1),
            ("semantic", "vocab_size", largest.get("semantic", 0) + 2),
        ):
            if getattr(self, key) < needed:
                raise UserError(
                    f"model.{key}={getattr(self, key)} but {index.folder} holds {member} id "
                    f"{largest.get(member, 0)}; set model.{key} to at least {needed}"
                )

    def build(self) -> S1:
        """A freshly initialised model (imports torch)."""
        from pretrain.models.gpt_sovits_s1.model import S1

        return S1(self)
