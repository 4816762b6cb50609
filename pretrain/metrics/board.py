"""What TensorBoard shows of a run. A full disk costs points of the curves and not the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from pretrain.metrics.hparams import METRICS, Value
from pretrain.metrics.layout import LAYOUT
from pretrain.models.protocol import Preview
from pretrain.tally import EDGES

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Board:
    """TensorBoard's files of a run in ``folder``; any thread may draw."""

    def __init__(self, folder: Path, start: int, settings: Mapping[str, Value]) -> None:
        """Go on after step ``start``: what was drawn later is purged.

        ``settings`` are shown in the table of runs, beside the last values of `METRICS`.
        """
        self._folder, self._broken, self._drawing = folder, False, Lock()
        self._writer = self._new(start + 1 if start else 0)  # a new run draws step 0 itself
        self._add(start, partial(_describe, settings))

    def close(self) -> None:
        """Write out what is left."""
        with suppress(OSError):
            self._writer.close()

    def draw(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add a point to each curve, by tag."""
        self._add(step, partial(_add_scalars, scalars, step))

    def preview(self, step: int, preview: Preview) -> None:
        """Add pictures and sounds of a clip; raises what a picture of odd shape makes of it."""
        self._add(step, partial(_add_preview, preview, step))

    def count(self, step: int, histograms: Mapping[str, npt.NDArray[np.int64]]) -> None:
        """Show how many clips lie between each two of `EDGES`, by tag."""
        self._add(step, partial(_add_histograms, histograms, step))

    def _new(self, step: int) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self._folder), purge_step=step)

    def _add(self, step: int, add: Callable[[SummaryWriter], None]) -> None:
        with self._drawing:
            try:
                if self._broken:  # a writer that met a full disk is of no use any more
                    self._writer, self._broken = self._new(step), False
                add(self._writer)
            except OSError:
                self._broken = True


def _add_scalars(scalars: Mapping[str, float], step: int, board: SummaryWriter) -> None:
    for tag, value in scalars.items():
        board.add_scalar(tag, value, step)


def _describe(settings: Mapping[str, Value], board: SummaryWriter) -> None:
    from torch.utils.tensorboard import summary

    board.add_custom_scalars(LAYOUT)
    hparams, writer = cast("Any", summary.hparams), cast("Any", board.file_writer)
    experiment, session, _ = hparams(dict(settings), dict.fromkeys(METRICS, 0.0))
    for told in (experiment, session):  # add_hparams would open a run beside this one
        writer.add_summary(told)


def _add_histograms(
    histograms: Mapping[str, npt.NDArray[np.int64]], step: int, board: SummaryWriter
) -> None:
    middles = (EDGES[:-1] + np.append(EDGES[1:-1], EDGES[-2])) / 2
    for tag, counts in histograms.items():
        filled = np.flatnonzero(counts)
        if not len(filled):
            continue
        used = slice(0, int(filled[-1]) + 1)
        limits = np.minimum(EDGES[1:], 2 * EDGES[-2])[used]
        board.add_histogram_raw(
            tag,
            min=float(EDGES[filled[0]]),
            max=float(limits[-1]),
            num=int(counts.sum()),
            sum=float(counts @ middles),
            sum_squares=float(counts @ middles**2),
            bucket_limits=limits.tolist(),
            bucket_counts=counts[used].tolist(),
            global_step=step,
        )


def _add_preview(preview: Preview, step: int, board: SummaryWriter) -> None:
    for name, picture in preview.pictures.items():
        tag = f"preview/{preview.key}/{name}"
        board.add_image(tag, picture, step, dataformats="HWC")
    for name, sound in preview.sounds.items():
        tag = f"preview/{preview.key}/{name}"
        board.add_audio(tag, sound.samples, step, sample_rate=sound.sample_rate)
