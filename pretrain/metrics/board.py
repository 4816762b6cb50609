"""What TensorBoard shows of a run. A full disk costs points of the curves and not the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from pretrain.metrics.events import EventFile
from pretrain.metrics.hparams import METRICS, Value
from pretrain.metrics.layout import LAYOUT
from pretrain.models.protocol import Preview
from pretrain.tally import EDGES

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary


class Board:
    """TensorBoard's files of a run in ``folder``; any thread may draw."""

    def __init__(self, folder: Path, start: int, settings: Mapping[str, Value]) -> None:
        """Go on after step ``start``: what was drawn later is purged.

        ``settings`` are shown in the table of runs, beside the last values of `METRICS`.
        """
        purged = start + 1 if start else 0  # a new run draws step 0 itself
        self._events, self._drawing = EventFile(folder, purged, _described(settings)), Lock()

    def close(self) -> None:
        """Draw no more."""
        self._events.close()

    def draw(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add a point to each curve, by tag."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._add(step, Summary(value=values))

    def preview(self, step: int, preview: Preview) -> None:
        """Add pictures and sounds of a clip; raises what a picture of odd shape makes of it."""
        for summary in _drawn(preview):
            self._add(step, summary)

    def count(self, step: int, histograms: Mapping[str, npt.NDArray[np.int64]]) -> None:
        """Show how many clips lie between each two of `EDGES`, by tag."""
        for tag, counts in histograms.items():
            if counts.any():
                self._add(step, _histogram(tag, counts))

    def _add(self, step: int, summary: Summary) -> None:
        with self._drawing:
            self._events.add(summary, step)


def _described(settings: Mapping[str, Value]) -> list[Summary]:
    from torch.utils.tensorboard.summary import custom_scalars, hparams

    layout, table = cast("Any", custom_scalars), cast("Any", hparams)
    experiment, session, _ = table(dict(settings), dict.fromkeys(METRICS, 0.0))
    return [layout(LAYOUT), experiment, session]


def _histogram(tag: str, counts: npt.NDArray[np.int64]) -> Summary:
    from torch.utils.tensorboard.summary import histogram_raw

    filled = np.flatnonzero(counts)
    middles = (EDGES[:-1] + np.append(EDGES[1:-1], EDGES[-2])) / 2
    used = slice(0, int(filled[-1]) + 1)
    limits = np.minimum(EDGES[1:], 2 * EDGES[-2])[used]
    drawn = cast("Any", histogram_raw)(
        tag,
        min=float(EDGES[filled[0]]),
        max=float(limits[-1]),
        num=int(counts.sum()),
        sum=float(counts @ middles),
        sum_squares=float(counts @ middles**2),
        bucket_limits=limits.tolist(),
        bucket_counts=counts[used].tolist(),
    )
    return cast("Summary", drawn)


def _drawn(preview: Preview) -> Iterator[Summary]:
    from torch.utils.tensorboard.summary import audio, image

    picture_of, sound_of = cast("Any", image), cast("Any", audio)
    for name, picture in preview.pictures.items():
        yield picture_of(f"preview/{preview.key}/{name}", picture, dataformats="HWC")
    for name, sound in preview.sounds.items():
        yield sound_of(f"preview/{preview.key}/{name}", sound.samples, sound.sample_rate)
