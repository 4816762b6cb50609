"""What computes content and voice while a model trains, in place of packed members."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from pydantic import Field

from shards.errors import UserError
from shards.features.content_mfcc import MfccContent
from shards.features.content_whisper import WhisperConfig, WhisperContent
from shards.features.content_xlsr import XlsrConfig, XlsrContent
from shards.features.encoder import Encoder
from shards.features.style_campplus import CampplusConfig, CampplusStyle
from shards.features.style_mean_mel import MeanMelStyle
from shards.section import Section

_SECTION = "model.online"


class OnlineConfig(Section):
    """``model.online``: the features of packing, with the options that they have there."""

    content: Literal["whisper", "xlsr", "mfcc"] = Field(
        default="whisper", description="content.whisper, content.xlsr or content.mfcc"
    )
    style: Literal["campplus", "mean_mel"] = Field(
        default="campplus", description="style.campplus or style.mean_mel"
    )
    whisper: WhisperConfig = WhisperConfig()
    xlsr: XlsrConfig = XlsrConfig()
    campplus: CampplusConfig = CampplusConfig()


@dataclass(frozen=True)
class Encoders:
    """Of the content, [channels, frames] a clip, and of the voice, [channels]."""

    content: Encoder
    style: Encoder


@cache
def encoders(config: OnlineConfig) -> Encoders:
    """The encoders, their models not yet loaded; UserError for a folder or file that will not do.

    Folders and files are looked at once per process.
    """
    return Encoders(_content(config), _style(config))


def refuse_other_width(config: OnlineConfig, content_channels: int, style_dim: int) -> None:
    """UserError where an encoder gives other widths than the model takes, and as `encoders`."""
    found = encoders(config)
    content, style = f"content={config.content}", f"style={config.style}"
    for given, encoder, key, width in (
        (content, found.content, "content_channels", content_channels),
        (style, found.style, "style_dim", style_dim),
    ):
        if encoder.channels != width:
            raise UserError(
                f"{_SECTION}.{given} gives {encoder.channels} channels but model.{key} is "
                f"{width}; set model.{key}={encoder.channels}"
            )


def _content(config: OnlineConfig) -> Encoder:
    match config.content:
        case "whisper":
            return WhisperContent.of(config.whisper, f"{_SECTION}.whisper")
        case "xlsr":
            return XlsrContent.of(config.xlsr, f"{_SECTION}.xlsr")
        case "mfcc":
            return MfccContent()


def _style(config: OnlineConfig) -> Encoder:
    if config.style == "mean_mel":
        return MeanMelStyle()
    return CampplusStyle.of(config.campplus, f"{_SECTION}.campplus")
