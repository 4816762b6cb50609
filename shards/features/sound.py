"""The sound that features are computed from."""

from __future__ import annotations

from shards.audio import MIN_SECONDS, Audio
from shards.clip import Clip


def sound_of(clip: Clip) -> Audio:
    """The clip's audio; ValueError where it has none, or too little for any feature."""
    if clip.audio is None:
        raise ValueError("no audio to compute features from")
    return long_enough(clip.audio)


def long_enough(audio: Audio) -> Audio:
    """``audio`` as it is; ValueError if it is shorter than MIN_SECONDS."""
    if len(audio.samples) < round(MIN_SECONDS * audio.sample_rate):
        raise ValueError("audio too short to compute features from")
    return audio
