"""Seed-VC v1 with upstream's parameter names, and a loss that padding cannot change."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from pretrain.models.growth import Growth
from pretrain.models.protocol import Guide, Preview
from pretrain.models.seed_vc.conditioning import conditioned
from pretrain.models.seed_vc.config import SeedVCConfig
from pretrain.models.seed_vc.dit import Estimator
from pretrain.models.seed_vc.flow import Draws, distance, draw, noised
from pretrain.models.seed_vc.frames import padded_mel
from pretrain.models.seed_vc.length_regulator import LengthRegulator, Stretched, before
from pretrain.models.seed_vc.preview import previewed
from pretrain.models.seed_vc.sampling import guided, prompts_of, sampled, start_of
from shards.collate import Batch


class SeedVC(nn.Module):
    """The flow-matching estimator and its length regulator."""

    def __init__(self, config: SeedVCConfig) -> None:
        super().__init__()
        self.config = config
        self.cfm = nn.ModuleDict({"estimator": Estimator(config)})
        self.length_regulator = LengthRegulator(
            config.content_channels,
            config.content_dim,
            config.content_codebook,
            config.n_f0_bins if config.f0_condition else 0,
        )

    @property
    def estimator(self) -> Estimator:
        """The diffusion transformer."""
        found = self.cfm["estimator"]
        assert isinstance(found, Estimator)
        return found

    @staticmethod
    def components() -> dict[str, tuple[str, ...]]:
        """The parts a user can freeze or slow, each with its parameters' prefixes."""
        inner = "cfm.estimator."
        return {
            "estimator": (inner,),
            "length_regulator": ("length_regulator.",),
            "transformer": (f"{inner}transformer.",),
            "wavenet": (f"{inner}wavenet.",),
        }

    @staticmethod
    def growth() -> Growth:
        """Both halves of a packed matrix would have to grow; layers pair up across the middle, so
        none may be added."""
        return Growth(
            packed=(
                "*.wqkv.weight",
                "*.project_layer.*",
                "*.adaLN_modulation.*",
                "*.skip_in_linear.weight",
                "*.cond_x_merge_linear.weight",
                "*.skip_linear.weight",
                "*.wavenet.*",
            )
        )

    def unused(self) -> tuple[str, ...]:
        """Parameters that checkpoints hold and no loss reaches: they never train."""
        return (
            *(f"cfm.estimator.{name}" for name in self.estimator.unused()),
            *(f"length_regulator.{name}" for name in self.length_regulator.unused()),
        )

    def stored_buffers(self) -> dict[str, Tensor]:
        """What upstream's checkpoints hold beside the parameters, by name."""
        stored = self.estimator.stored_buffers()
        return {f"cfm.estimator.{name}": values for name, values in stored.items()}

    def forward(self, batch: Batch, guide: Guide | None = None) -> dict[str, Tensor]:
        """Loss of each clip, a mean over its mel channels and frames after the prompt, [B].

        Under a ``guide`` the distance from its velocities is added; both are then shown.
        """
        batch = self.conditioned(batch)
        mel, lengths = padded_mel(batch, self.config.mel_parameters)
        draws = self._draws(batch, lengths, mel.shape[2], dropout=self.training)
        found, wanted = self._velocities(batch, mel, lengths, draws)
        loss = self._distance(found, wanted, draws, lengths)
        if guide is None:
            return {"loss": loss}
        apart = self._distance(found, guide.outputs, draws, lengths)
        total = loss + guide.weight * apart
        return {"loss": total, "flow_matching": loss, "distill": apart}

    def outputs(self, batch: Batch) -> Tensor:
        """Velocities [B, n_mels, T] for the draws of a training step."""
        batch = self.conditioned(batch)
        mel, lengths = padded_mel(batch, self.config.mel_parameters)
        draws = self._draws(batch, lengths, mel.shape[2], dropout=True)
        return self._velocities(batch, mel, lengths, draws)[0]

    def previews(self, batch: Batch) -> list[Preview]:
        """Each clip's spectrogram and one that is sampled after its first part."""
        batch, config = self.conditioned(batch), self.config
        mel, lengths = padded_mel(batch, config.mel_parameters)
        prompts, style = prompts_of(lengths), batch.arrays["style"]
        content = self._content(batch, lengths, prompts, mel.shape[2])

        def estimate(x: Tensor, prompt: Tensor, time: Tensor, keep: Tensor) -> Tensor:
            found: Tensor = self.estimator(x, prompt, lengths, time, style, content, keep, lengths)
            return found

        noise = start_of(config.n_mels, mel.shape[2], batch.keys, mel.device)
        velocity = guided(estimate, config.guidance)
        found = sampled(velocity, noise, mel, prompts, config.sampling_steps)
        return previewed(batch.keys, mel, found, lengths, prompts, config.mel_parameters)

    def conditioned(self, batch: Batch) -> Batch:
        """``batch`` with the content and style that `forward` reads, packed or computed now."""
        if self.config.features == "packed":
            return batch
        return conditioned(batch, self.config.online, self.config.mel_parameters.sample_rate)

    def _draws(self, batch: Batch, lengths: Tensor, frames: int, *, dropout: bool) -> Draws:
        # A stand-in has no keys.
        keys = batch.keys or tuple(str(number) for number in range(len(lengths)))
        draws = draw(self.config, keys, lengths, frames)
        return draws if dropout else replace(draws, keep=torch.ones_like(draws.keep))

    def _velocities(
        self, batch: Batch, mel: Tensor, lengths: Tensor, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        between, prompt, wanted = noised(mel, draws)
        content = self._content(batch, lengths, draws.prompt_lengths, mel.shape[2])
        style = batch.arrays["style"]
        found = self.estimator(
            between, prompt, lengths, draws.time, style, content, draws.keep, lengths
        )
        return found, wanted

    def _content(self, batch: Batch, lengths: Tensor, prompts: Tensor, frames: int) -> Tensor:
        """Conditions [B, T, content_dim]: of the prompt as spoken, after it in another timbre."""
        own = self._regulated(batch, "content", lengths, frames)
        if "content_alt" not in batch.arrays:
            return own
        other = self._regulated(batch, "content_alt", lengths, frames)
        there = (batch.lengths["content_alt"] > 0)[:, None]
        spoken = before(prompts, frames) | ~there
        return torch.where(spoken[:, :, None], own, other)

    def _regulated(self, batch: Batch, name: str, lengths: Tensor, frames: int) -> Tensor:
        values = batch.arrays[name]
        content = Stretched(values, batch.lengths[name])
        f0 = (
            Stretched(batch.arrays["f0"], batch.lengths["f0"]) if self.config.f0_condition else None
        )
        out: Tensor = self.length_regulator(content, lengths, lengths, frames, f0)
        return out

    def _distance(self, found: Tensor, wanted: Tensor, draws: Draws, lengths: Tensor) -> Tensor:
        squared = self.config.loss == "l2"
        return distance(found, wanted, draws.prompt_lengths, lengths, squared)
