"""Whole speakers set apart for validation."""

from __future__ import annotations

from collections.abc import Mapping

import xxhash

from shards.pack.config import PackConfig

TRAIN, VALIDATION = "train", "validation"


def validation_speakers(seconds: Mapping[str, float], config: PackConfig) -> frozenset[str]:
    """Speakers with about ``config.validation`` of the audio, by chance but always the same.

    ``seconds``: audio by speaker; one without a name may be several people and stays out. Each is
    taken that fits into what is left of the share; if none fits, the one with the least audio. Of
    fewer than two named speakers none is taken.
    """
    named = [speaker for speaker in seconds if speaker]
    if config.validation == 0 or len(named) < 2:
        return frozenset()
    left = config.validation * sum(seconds.values())
    chosen: set[str] = set()
    for speaker in sorted(named, key=lambda name: _chance(config.seed, name)):
        if seconds[speaker] <= left and len(chosen) < len(named) - 1:
            chosen.add(speaker)
            left -= seconds[speaker]
    return frozenset(chosen or [min(named, key=lambda name: (seconds[name], name))])


def _chance(seed: int, speaker: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{seed}/{speaker}".encode())
