"""Fitting codebooks to a sample of the corpus before anything is packed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from functools import partial
from typing import Any

import numpy.typing as npt

from shards.audio import UNREADABLE, Audio, mono, opened
from shards.features.feature import FittedFeature
from shards.pack.layout import Layout
from shards.pack.progress import Watch
from shards.pack.recipe import Recipe
from shards.quality.clean import cleaned
from shards.sources.source import Recording

FIT_SECONDS = 4000.0
"""Audio that units are fitted to: 100,000 frames at 25 Hz, 500 a unit with 200 units."""
TAKEN_SECONDS = 30.0
"""At most so much of one recording, from its middle."""


def fit_features(pool: Executor, recipe: Recipe, layout: Layout, watch: Watch) -> None:
    """Fit every feature that needs it and has no codebook yet.

    The sample depends on the corpus alone, so that jobs that share it come to the same codebook.
    """
    for feature in recipe.features:
        if isinstance(feature, FittedFeature) and not feature.codebook.is_file():
            watch.say(f"fitting {feature.codebook.name}")
            found = pool.map(partial(_frames, recipe, feature), _sample(layout), chunksize=8)
            feature.fit([frames for frames in found if frames is not None])


def _sample(layout: Layout) -> Iterator[Recording]:
    taken = min(max(layout.mean_seconds, 0.1), TAKEN_SECONDS)
    for row in layout.listing.spread(round(FIT_SECONDS / taken)):
        found = layout.listing.row(row)
        if isinstance(found, Recording) and found.audio is not None:
            yield found


def _frames(
    recipe: Recipe, feature: FittedFeature, recording: Recording
) -> npt.NDArray[Any] | None:
    try:
        return feature.frames(cleaned(_middle(recording), recipe.config.clean))
    except (*UNREADABLE, ValueError):
        return None  # rejected with its reason when its turn comes


def _middle(recording: Recording) -> Audio:
    assert recording.audio is not None
    with opened(recording.audio) as file:
        begin = round(recording.start * file.samplerate)
        seconds = recording.seconds
        frames = file.frames - begin if seconds is None else round(seconds * file.samplerate)
        taken = min(frames, round(TAKEN_SECONDS * file.samplerate))
        file.seek(begin + (frames - taken) // 2)
        return Audio(mono(file.read(taken, dtype="float32", always_2d=True)), file.samplerate)
