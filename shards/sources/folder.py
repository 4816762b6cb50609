"""A folder tree of audio files and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from shards.errors import UserError
from shards.sources.paths import is_folder
from shards.sources.source import Recording, Reject, Source
from shards.sources.tree import glance, walk

if TYPE_CHECKING:
    from shards.pack.config import PackConfig

GLANCE = 1_000_000


class AudioFolder(Source):
    """Any folder tree of audio: the speaker is the first folder level, "" for files in the root.

    Hidden files and folders are left out. Links to folders are followed, since corpora are put
    together with them, except one that leads to a folder it lies in. A folder that two ways lead
    to is listed twice: equal audio is found when it is packed.
    """

    kind = "folder"
    about = "a folder tree of audio files, its first folder level the speakers"
    catches = 3

    def __init__(self, path: Path, config: PackConfig) -> None:
        super().__init__(path, config)
        if not is_folder(path):
            raise UserError(f"SOURCE: {path} is no folder; name the folder that holds the audio")

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """A folder with audio among the first million files and folders below it."""
        return any(True for _ in glance(path, GLANCE))

    def recordings(self) -> Iterator[Recording | Reject]:
        """Every audio file, a folder's own before those of its sub-folders."""
        for level in walk(self.path):
            yield from level.rejects
            yield from level.recordings(self.path)
