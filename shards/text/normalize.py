"""Transcripts made ready to be spoken."""

from __future__ import annotations

from pydantic import Field

from shards.section import Section
from shards.text.clean import cleaned
from shards.text.languages import language_of
from shards.text.numbers import spelled


class TextConfig(Section):
    """``text``: what is done to transcripts before features; the original stays in the facts."""

    normalize: bool = Field(
        default=True, description="Unicode NFKC, control characters and markup out"
    )
    numbers: bool = Field(default=True, description="spell numbers in the clip's language")


def normalized(text: str, language: str, config: TextConfig) -> str:
    """``text`` as it is read out; doing it again changes nothing, and it never raises.

    ``language`` is a code as people write it: EN, en-US, zh_CN, jp. In one that
    `shards.text.languages` does not hold digits stay as they are.

    Example: ``normalized("It's <b>5%</b>", "en", TextConfig())`` is "It's five percent".
    """
    if config.normalize:
        text = cleaned(text)
    spoken = language_of(language) if config.numbers else None
    if spoken is None:
        return text
    text = spelled(text, spoken)
    return cleaned(text) if config.normalize else text
