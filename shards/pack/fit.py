"""Fitting codebooks to a sample of the corpus before anything is packed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from functools import partial
from typing import Any

import numpy.typing as npt

from shards.audio import Audio, AudioPlace, blocks, joined, opened
from shards.errors import UserError
from shards.features.feature import FittedFeature
from shards.pack.layout import Layout
from shards.pack.progress import Watch
from shards.pack.recipe import Recipe
from shards.pack.takes import RefusedError, reading, span
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
            frames = [some for some in found if some is not None]
            if not frames:
                _refuse_unreadable(layout)
            feature.fit(frames)


def _refuse_unreadable(layout: Layout) -> None:
    first = next(_sample(layout), None)
    example = f", such as {first.audio.path}" if first and first.audio else ""
    raise UserError(
        f"SOURCE: none of its audio files can be read{example}; bring them there, or mend the paths"
    )


def _sample(layout: Layout) -> Iterator[Recording]:
    taken = min(max(layout.mean_seconds, 0.1), TAKEN_SECONDS)
    for row in layout.listing.spread(round(FIT_SECONDS / taken)):
        found = layout.listing.row(row)
        if isinstance(found, Recording) and found.audio is not None:
            yield found


def _frames(
    recipe: Recipe, feature: FittedFeature, recording: Recording
) -> npt.NDArray[Any] | None:
    assert recording.audio is not None
    try:
        heard = _middle(recipe, recording, recording.audio)
        return feature.frames(cleaned(heard, recipe.config.clean))
    except (RefusedError, ValueError):
        return None  # rejected with its reason when its turn comes


def _middle(recipe: Recipe, recording: Recording, place: AudioPlace) -> Audio:
    with reading(recipe, place), opened(place) as file:
        begin, frames = span(recording, file)
        taken = min(frames, round(TAKEN_SECONDS * file.samplerate))
        found = blocks(file, begin + (frames - taken) // 2, taken)
        return Audio(joined(found), file.samplerate)
