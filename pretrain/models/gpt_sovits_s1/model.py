"""GPT-SoVITS s1 with upstream's parameter names, and a loss that padding cannot change.

Upstream pads phonemes on the right but masks them on the left, and counts padded positions as
EOS targets; both are left out here, so a clip's loss is the same alone and in any batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.distill import divergence
from pretrain.models.gpt_sovits_s1.alignment import alignments, watched
from pretrain.models.gpt_sovits_s1.config import S1Config
from pretrain.models.gpt_sovits_s1.flops import BERT_DIM
from pretrain.models.gpt_sovits_s1.layers import Decoder, SinePosition, TokenEmbedding
from pretrain.models.growth import Growth
from pretrain.models.protocol import Guide, Preview
from shards.collate import Batch

IGNORE = -100
TOP = 3


class S1(nn.Module):
    """Phonemes and the semantic tokens so far predict the next semantic token."""

    def __init__(self, config: S1Config) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.config = config
        self.bert_proj = nn.Linear(BERT_DIM, dim)
        self.ar_text_embedding = TokenEmbedding(config.phoneme_vocab_size, dim)
        self.ar_text_position = SinePosition(dim, config.dropout)
        self.ar_audio_embedding = TokenEmbedding(config.vocab_size, dim)
        self.ar_audio_position = SinePosition(dim, config.dropout)
        self.h = Decoder(dim, config.head, config.n_layer, config.dropout)
        self.ar_predict_layer = nn.Linear(dim, config.vocab_size, bias=False)

    @staticmethod
    def components() -> dict[str, tuple[str, ...]]:
        """The parts a user can freeze or slow, each with its parameters' prefixes."""
        return {
            "bert_proj": ("bert_proj.",),
            "text_embedding": ("ar_text_embedding.", "ar_text_position."),
            "audio_embedding": ("ar_audio_embedding.", "ar_audio_position."),
            "decoder": ("h.",),
            "head": ("ar_predict_layer.",),
        }

    @staticmethod
    def growth() -> Growth:
        """Layers may be added; of both audio vocabularies EOS is the last."""
        return Growth(
            blocks=("h.layers.",),
            block_outputs=("self_attn.out_proj.*", "linear2.*"),
            last_row_last=("ar_audio_embedding.word_embeddings.weight", "ar_predict_layer.weight"),
            packed=("*.self_attn.in_proj_*",),
        )

    @staticmethod
    def unused() -> tuple[str, ...]:
        """Every parameter trains."""
        return ()

    def forward(self, batch: Batch, guide: Guide | None = None) -> dict[str, Tensor]:
        """Loss and top-3 hits, summed over each clip's targets, float32 [B].

        The loss is the cross entropy, in training with smoothed targets, and under a ``guide`` the
        divergence from it, which are then shown on their own too.
        """
        logits = self.outputs(batch)
        targets = self.targets(batch.arrays["semantic"], batch.lengths["semantic"])
        loss = self._cross_entropy(logits, targets)
        terms = {"loss": loss, "top3": _top_hits(logits.detach(), targets)}
        if guide is not None:
            apart = divergence(logits, guide).masked_fill(targets == IGNORE, 0.0).sum(1)
            terms |= {"loss": loss + guide.weight * apart, "cross_entropy": loss, "distill": apart}
        return terms

    def outputs(self, batch: Batch) -> Tensor:
        """Next-token logits of a batch, [B, S + 1, vocab]."""
        return self.logits(
            batch.arrays["phonemes"],
            batch.lengths["phonemes"],
            batch.arrays["semantic"],
            batch.lengths["semantic"],
            batch.arrays.get("bert"),
        )

    def previews(self, batch: Batch) -> list[Preview]:
        """Where each clip's semantic tokens look among its phonemes."""
        with watched(self.h) as weights:
            self.outputs(batch)
        return alignments(batch, weights)

    def _cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        losses = F.cross_entropy(
            logits.float().flatten(0, 1),
            targets.flatten(),
            ignore_index=IGNORE,
            reduction="none",
            label_smoothing=self.config.label_smoothing if self.training else 0.0,
        )
        return losses.view_as(targets).sum(1)

    def logits(
        self,
        phonemes: Tensor,
        phoneme_lengths: Tensor,
        semantic: Tensor,
        semantic_lengths: Tensor,
        bert: Tensor | None = None,
    ) -> Tensor:
        """Next-token logits [B, S + 1, vocab].

        ``phonemes`` [B, P] and ``semantic`` [B, S] are padded right, ``bert`` is [B, 1024, <=P].
        Position 0 (a clip's last real phoneme) predicts the first semantic token, position n
        (semantic token n - 1) the next one or EOS.
        """
        text = self.ar_text_position(self._text(phonemes, bert))
        audio = self.ar_audio_position(self.ar_audio_embedding(semantic))
        allowed = attention_mask(phonemes.shape[1], semantic.shape[1], phoneme_lengths)
        hidden = self.h(torch.cat([text, audio], dim=1), allowed)
        last_phoneme = hidden[torch.arange(len(hidden), device=hidden.device), phoneme_lengths - 1]
        readout = torch.cat([last_phoneme[:, None], hidden[:, phonemes.shape[1] :]], dim=1)
        out: Tensor = self.ar_predict_layer(readout)
        return out

    def targets(self, semantic: Tensor, lengths: Tensor) -> Tensor:
        """Targets [B, S + 1]: the tokens, EOS at each clip's end, IGNORE after it."""
        place = torch.arange(semantic.shape[1] + 1, device=semantic.device)[None]
        shifted = F.pad(semantic, (0, 1), value=self.config.eos)
        shifted = shifted.masked_fill(place == lengths[:, None], self.config.eos)
        ignored = place > lengths[:, None]
        if self.config.alignment == "after_first":
            ignored = ignored | (place == 0)
        return shifted.masked_fill(ignored, IGNORE)

    def _text(self, phonemes: Tensor, bert: Tensor | None) -> Tensor:
        embedded: Tensor = self.ar_text_embedding(phonemes)
        if bert is None:
            # One zero position stands for all: the projection stays in the graph on every rank.
            bert = embedded.new_zeros(1, BERT_DIM, 1)
        else:
            bert = F.pad(bert, (0, phonemes.shape[1] - bert.shape[2])).to(embedded.dtype)
        projected: Tensor = self.bert_proj(bert.transpose(1, 2))
        return embedded + projected


def attention_mask(phonemes: int, tokens: int, phoneme_lengths: Tensor) -> Tensor:
    """Who may look where, bool [B, 1, P + S, P + S].

    Phonemes see the clip's phonemes; semantic tokens see those and the tokens up to themselves.
    Padded tokens lie to the right of all real ones, so causality already hides them.
    """
    device = phoneme_lengths.device
    place = torch.arange(phonemes + tokens, device=device)
    is_text = place < phonemes
    causal = (place[:, None] >= place[None, :]) & ~is_text[:, None] & ~is_text[None, :]
    real_text = is_text[None] & (place[None] < phoneme_lengths[:, None])
    return (causal[None] | real_text[:, None, :])[:, None]


def _top_hits(logits: Tensor, targets: Tensor) -> Tensor:
    top = logits.topk(TOP, dim=-1).indices
    hits: Tensor = (top == targets[..., None]).flatten(1).sum(1)
    return hits.float()
