"""Semantic tokens as GPT-SoVITS makes them: HuBERT frames through the quantizer of an s2G file.

Language models of semantic tokens are tied to the quantizer that named the tokens, so it is read
from the very checkpoint that the tokens are for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shards.audio import Audio
from shards.clip import Clip
from shards.errors import UserError
from shards.features import sovits_checkpoint
from shards.features.hubert import (
    SAMPLE_RATE,
    frames_per_second,
    hidden_states,
    hubert_folder,
    whole_model,
)
from shards.features.model_folder import ModelFolder
from shards.features.sound import sound_of
from shards.features.sovits_checkpoint import SovitsQuantizer, read_quantizer
from shards.section import Section

if TYPE_CHECKING:
    from shards.pack.config import PackConfig

_PREPARED_RATE = 32_000
_HIGHEST_PEAK = 2.2
_PEAK, _SHARE, _GAIN = 0.95, 0.5, 1145.14


class SovitsConfig(Section):
    """``sovits``: the models of units.sovits."""

    cnhubert: str | None = Field(default=None, description="folder of chinese-hubert-base")
    checkpoint: str | None = Field(
        default=None, description="an s2G file; its ssl_proj and codebook are read"
    )


@dataclass(frozen=True)
class SovitsUnits:
    """``units.sovits``: int16 [frames] at 25 Hz, or at 50 Hz if the checkpoint is of such."""

    cnhubert: ModelFolder
    checkpoint: Path

    member: ClassVar[str] = "semantic.npy"
    needs_text: ClassVar[bool] = False
    needs_audio: ClassVar[bool] = True

    @classmethod
    def configured(cls, config: PackConfig, out: Path) -> SovitsUnits:
        """UserError without either model, and for a pair that does not fit together."""
        chosen = config.sovits
        cnhubert = hubert_folder("sovits.cnhubert", chosen.cnhubert, "chinese-hubert-base")
        if not chosen.checkpoint:
            raise UserError(
                f"{sovits_checkpoint.OPTION}: not set; write {sovits_checkpoint.OPTION}=FILE with "
                "the s2G checkpoint (.pth) whose quantizer names the tokens"
            )
        checkpoint = Path(chosen.checkpoint).expanduser()
        frames_per_second(cnhubert)
        _refuse_other_width(cnhubert, checkpoint, read_quantizer(checkpoint))
        return cls(cnhubert, checkpoint)

    def compute(self, clip: Clip) -> NDArray[Any]:
        """Tokens of the clip's audio; ValueError for audio that the program would leave out."""
        signal = prepared(sound_of(clip)).at(SAMPLE_RATE).samples
        frames = hidden_states(whole_model(self.cnhubert), signal)
        return read_quantizer(self.checkpoint).tokens(frames)

    def about(self) -> dict[str, Any]:
        """Rate, number of tokens and models."""
        quantizer = read_quantizer(self.checkpoint)
        return {
            "feature": "units.sovits",
            "per_second": frames_per_second(self.cnhubert) / quantizer.stride,
            "codes": len(quantizer.codes),
            "cnhubert": self.cnhubert.about(),
            "checkpoint": {"name": self.checkpoint.name, "fingerprint": quantizer.fingerprint()},
        }


def prepared(audio: Audio) -> Audio:
    """What GPT-SoVITS gives HuBERT, still at 32 kHz: half of it levelled by its peak, and loud.

    ``1145.14 * (0.5 * 0.95 * x / peak + 0.5 * x)`` (prepare_datasets/2-get-hubert-wav32k.py), not
    normalised in any other way. ValueError for silence and for a peak over 2.2, which are dropped
    there too.
    """
    sound = audio.at(_PREPARED_RATE)
    peak = np.abs(sound.samples).max()
    if peak == 0:
        raise ValueError("silence has no semantic tokens")
    if peak > _HIGHEST_PEAK:
        raise ValueError("peak far above full scale")
    gain = _GAIN * (_SHARE * _PEAK / peak + 1 - _SHARE)
    return Audio(sound.samples * np.float32(gain), _PREPARED_RATE)


def _refuse_other_width(
    cnhubert: ModelFolder, checkpoint: Path, quantizer: SovitsQuantizer
) -> None:
    hidden, width = cnhubert.number("hidden_size"), quantizer.codes.shape[1]
    if hidden != width:
        raise UserError(
            f"sovits.checkpoint: {checkpoint} takes frames of {width} numbers and the model in "
            f"{cnhubert.path} gives {hidden}; give the HuBERT model that belongs to the checkpoint"
        )
