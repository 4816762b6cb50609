"""A clip on its way into a shard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shards.audio import Audio


@dataclass(frozen=True)
class Clip:
    """What features are computed from. ``text`` is ready to be spoken, "" where there is none."""

    name: str
    text: str
    speaker: str
    language: str
    audio: Audio | None
    facts: Mapping[str, Any]
