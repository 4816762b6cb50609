"""The diffusion transformer that estimates the velocity of a noised mel spectrogram."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretrain.models.seed_vc.attention import Transformer
from pretrain.models.seed_vc.config import SeedVCConfig
from pretrain.models.seed_vc.heads import FinalLayer, TimeEmbedding, time_frequencies
from pretrain.models.seed_vc.length_regulator import before
from pretrain.models.seed_vc.wavenet import WaveNet
from pretrain.models.seed_vc.weight_norm import NormedLinear

CODEBOOK = 1024
"""Rows of upstream's embedding of discrete content, which nothing reads."""
ROPE_POSITIONS = 16384


class Estimator(nn.Module):
    """Velocity of a noised mel, given a prompt, content and a voice.

    ``x_embedder``, ``cond_embedder``, ``content_mask_embedder`` and what else `unused` names are of
    checkpoints alone.
    """

    def __init__(self, config: SeedVCConfig) -> None:
        super().__init__()
        dim, mels = config.hidden_dim, config.n_mels
        self.config = config
        self.transformer = Transformer(
            dim,
            config.head,
            config.n_layer,
            skips=config.uvit_skip,
            conditioned=not config.time_as_token,
        )
        self.x_embedder = NormedLinear(mels, dim)
        self.cond_embedder = nn.Embedding(CODEBOOK, dim)
        self.cond_projection = nn.Linear(config.content_dim, dim)
        self.t_embedder = TimeEmbedding(dim)
        if config.head_type == "wavenet":
            self.t_embedder2 = TimeEmbedding(dim)
            self.conv1 = nn.Linear(dim, dim)
            self.conv2 = nn.Conv1d(dim, mels, 1)
            self.wavenet = WaveNet(dim, config.wavenet)
            self.final_layer = FinalLayer(dim)
            self.res_projection = nn.Linear(dim, dim)
        else:
            self.final_mlp = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, mels))
        self.content_mask_embedder = nn.Embedding(1, dim)
        self.skip_linear = nn.Linear(dim + mels, dim)
        beside = 0 if config.style_as_token else config.style_dim
        self.cond_x_merge_linear = nn.Linear(dim + 2 * mels + beside, dim)
        if config.style_as_token:
            self.style_in = nn.Linear(config.style_dim, dim)

    def unused(self) -> tuple[str, ...]:
        """Parameters that never get a gradient."""
        idle = ["x_embedder.", "cond_embedder.", "content_mask_embedder."]
        idle += [] if self.config.long_skip else ["skip_linear."]
        own = (name for name, _ in self.named_parameters() if name.startswith(tuple(idle)))
        return (*own, *(f"transformer.{name}" for name in self.transformer.unused()))

    def stored_buffers(self) -> dict[str, Tensor]:
        """What upstream's checkpoints hold beside the parameters."""
        cpu = torch.device("cpu")
        names = ("t_embedder", "t_embedder2")[: 2 if self.config.head_type == "wavenet" else 1]
        return {
            "input_pos": torch.arange(ROPE_POSITIONS),
            **{f"{name}.freqs": time_frequencies(cpu) for name in names},
        }

    def forward(
        self,
        x: Tensor,
        prompt: Tensor,
        lengths: Tensor,
        time: Tensor,
        style: Tensor,
        content: Tensor,
        keep: Tensor,
        spans: Tensor,
    ) -> Tensor:
        """Velocity [B, n_mels, T].

        ``x`` and ``prompt`` [B, n_mels, T], ``lengths`` int64 [B], ``time`` [B], ``style``
        [B, style_dim], ``content`` [B, T, content_dim]; prompt, content and style are left out
        where ``keep`` [B] is 0. ``spans`` int64 [B]: after how many frames the wavenet reflects
        each clip; ``lengths``, or as upstream the batch's longest for all.
        """
        dtype = self.cond_projection.weight.dtype
        x, prompt, style, keep = (part.to(dtype) for part in (x, prompt, style, keep))
        noised, real = x.transpose(1, 2), before(lengths, x.shape[2])
        embedded_time: Tensor = self.t_embedder(time)
        frames = self._merge(noised, prompt.transpose(1, 2), style, content.to(dtype), keep)
        tokens = self._tokens(embedded_time, style, keep)
        allowed = torch.cat([real.new_ones(len(real), len(tokens)), real], dim=1)[:, None, None]
        hidden = torch.cat([*tokens, frames], dim=1)
        out = self.transformer(hidden, embedded_time, allowed)[:, len(tokens) :]
        if self.config.long_skip:
            out = self.skip_linear(torch.cat([out, noised.to(out.dtype)], dim=-1))
        if self.config.head_type == "wavenet":
            return self._wavenet_head(out, real, spans, embedded_time, time)
        velocity: Tensor = self.final_mlp(out).transpose(1, 2)
        return velocity

    def _merge(
        self, noised: Tensor, prompt: Tensor, style: Tensor, content: Tensor, keep: Tensor
    ) -> Tensor:
        given = [prompt, self.cond_projection(content)]
        if not self.config.style_as_token:
            given.append(style[:, None].expand(-1, noised.shape[1], -1))
        conditions = torch.cat(given, dim=-1) * keep[:, None, None]
        out: Tensor = self.cond_x_merge_linear(torch.cat([noised, conditions], dim=-1))
        return out

    def _tokens(self, embedded_time: Tensor, style: Tensor, keep: Tensor) -> list[Tensor]:
        tokens = [embedded_time] if self.config.time_as_token else []
        if self.config.style_as_token:
            # Multiplied, not replaced: the projection stays in the graph on every rank.
            tokens.append(self.style_in(style) * keep[:, None])
        return [token[:, None] for token in tokens]

    def _wavenet_head(
        self, x: Tensor, real: Tensor, spans: Tensor, embedded_time: Tensor, time: Tensor
    ) -> Tensor:
        waves = self.wavenet(
            self.conv1(x).transpose(1, 2), real[:, None], spans, self.t_embedder2(time)
        )
        merged = waves.transpose(1, 2) + self.res_projection(x)
        out: Tensor = self.conv2(self.final_layer(merged, embedded_time).transpose(1, 2))
        return out
