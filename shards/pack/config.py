"""Everything that packing can be told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shards.features.bert import BertConfig
from shards.features.content_whisper import WhisperConfig
from shards.features.content_xlsr import XlsrConfig
from shards.features.kmeans import UnitsConfig
from shards.features.mel import MelConfig
from shards.features.style_campplus import CampplusConfig
from shards.features.units_hubert import HubertConfig
from shards.features.units_sovits import SovitsConfig
from shards.quality.clean import CleanConfig
from shards.quality.cut import CutConfig
from shards.quality.limits import QualityConfig
from shards.section import Section
from shards.text.normalize import TextConfig


class AudioConfig(Section):
    """``audio``: how the sound itself is stored."""

    store: Literal["flac", "original", "none"] | None = Field(
        default=None,
        description="flac (mono, 16 bit), original (the bytes as they came) or none; by default "
        "what the kind of source needs",
    )
    sample_rate: int | None = Field(
        default=None, ge=4000, le=192_000, description="resample flac to this; by default not"
    )


class DuplicatesConfig(Section):
    """``duplicates``: clips that are in the corpus more than once."""

    exact: Literal["reject", "keep"] = Field(
        default="reject", description="clips with the same decoded audio"
    )
    near: Literal["reject", "keep"] = Field(
        default="keep", description="clips with the same text, speaker and nearly the same length"
    )
    near_seconds: float = Field(default=0.05, ge=0, description="what nearly the same length is")


class GptSovitsConfig(Section):
    """``gpt_sovits``: how a prepared experiment folder is read."""

    symbols: Literal["v1", "v2"] = Field(default="v2", description="its phoneme table")
    codes: int = Field(
        default=1024,
        ge=1,
        le=32767,
        description="size of the codebook; larger tokens are no tokens",
    )
    cnhubert: bool = Field(
        default=False, description="store the features of 4-cnhubert too, 276 MB an hour"
    )
    upstream_filters: bool = Field(
        default=False, description="reject what the program's own training leaves out"
    )
    max_seconds: float = Field(default=54.0, gt=0, description="upstream's max_sec")
    min_phonemes_per_second: float = Field(default=3.0, ge=0, description="upstream's min_ps_ratio")
    max_phonemes_per_second: float = Field(
        default=25.0, gt=0, description="upstream's max_ps_ratio"
    )


class PackConfig(Section):
    """How a corpus is packed. Other settings make other shards, and want another folder."""

    features: tuple[str, ...] | None = Field(
        default=None, description="what to compute; by default what the kind of source needs"
    )
    audio: AudioConfig = AudioConfig()
    cut: CutConfig = CutConfig()
    clean: CleanConfig = CleanConfig()
    quality: QualityConfig = QualityConfig()
    text: TextConfig = TextConfig()
    duplicates: DuplicatesConfig = DuplicatesConfig()
    units: UnitsConfig = UnitsConfig()
    hubert: HubertConfig = HubertConfig()
    sovits: SovitsConfig = SovitsConfig()
    bert: BertConfig = BertConfig()
    mel: MelConfig = MelConfig()
    whisper: WhisperConfig = WhisperConfig()
    xlsr: XlsrConfig = XlsrConfig()
    campplus: CampplusConfig = CampplusConfig()
    gpt_sovits: GptSovitsConfig = GptSovitsConfig()
    validation: float = Field(
        default=0.0, ge=0, lt=1, description="share of the hours set apart, by whole speakers"
    )
    language: str | None = Field(
        default=None, description="the language of clips whose corpus names none, such as en"
    )
    shard_hours: float = Field(default=1.0, ge=0.001, description="audio per shard")
    seed: int = Field(
        default=0, ge=0, le=2**32 - 1, description="shuffles clips and seeds the k-means"
    )
