"""What TensorBoard shows of a run. A full disk costs points of the curves and not the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from pretrain.models.protocol import Preview

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Board:
    """TensorBoard's files of a run in ``folder``; any thread may draw."""

    def __init__(self, folder: Path, start: int) -> None:
        """Go on after step ``start``: what was drawn later is purged."""
        self._folder, self._broken, self._drawing = folder, False, Lock()
        self._writer = self._new(start + 1 if start else 0)  # a new run draws step 0 itself

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


def _add_preview(preview: Preview, step: int, board: SummaryWriter) -> None:
    for name, picture in preview.pictures.items():
        tag = f"preview/{preview.key}/{name}"
        board.add_image(tag, picture, step, dataformats="HWC")
    for name, sound in preview.sounds.items():
        tag = f"preview/{preview.key}/{name}"
        board.add_audio(tag, sound.samples, step, sample_rate=sound.sample_rate)
