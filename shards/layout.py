"""Which clip goes into which shard: one length bucket a shard, shuffled, speakers spread."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shards.buckets import edges_of
from shards.sources.source import Utterance

BUCKETS = 8


@dataclass(frozen=True)
class ShardLayout:
    """A shard to be written and its clips in order."""

    name: str
    utterances: tuple[Utterance, ...]


def lay_out(
    utterances: Sequence[Utterance], *, shard_hours: float, seed: int
) -> tuple[ShardLayout, ...]:
    """Shards of about ``shard_hours`` of audio each, every clip in exactly one."""
    if not utterances:
        return ()
    seconds = np.array([utterance.seconds for utterance in utterances])
    bucket_of = np.searchsorted(edges_of(seconds, BUCKETS), seconds)
    shards: list[tuple[Utterance, ...]] = []
    for bucket in range(int(bucket_of.max()) + 1):
        members = [utterances[int(row)] for row in np.flatnonzero(bucket_of == bucket)]
        order = spread_speakers(members, random.Random(f"{seed}/{bucket}"))
        shards += _cut(order, shard_hours * 3600)
    return tuple(ShardLayout(f"shard-{n:06d}.tar", clips) for n, clips in enumerate(shards))


def spread_speakers(utterances: Sequence[Utterance], chance: random.Random) -> list[Utterance]:
    """A shuffle in which every speaker's clips lie evenly over the whole length."""
    by_speaker: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        by_speaker[utterance.speaker].append(utterance)
    placed: list[tuple[float, Utterance]] = []
    for clips in by_speaker.values():
        chance.shuffle(clips)
        placed += [((n + chance.random()) / len(clips), clip) for n, clip in enumerate(clips)]
    return [clip for _, clip in sorted(placed, key=lambda pair: pair[0])]


def _cut(order: Sequence[Utterance], limit: float) -> list[tuple[Utterance, ...]]:
    shards: list[list[Utterance]] = []
    held = limit
    for utterance in order:
        if held >= limit:
            shards.append([])
            held = 0.0
        shards[-1].append(utterance)
        held += utterance.seconds
    return [tuple(shard) for shard in shards]
