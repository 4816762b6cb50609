"""Walking a tree of audio files, one folder in memory at a time."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from shards.audio import EXTENSIONS, AudioPlace
from shards.sources.paths import is_audio, parted, printable
from shards.sources.source import Recording, Reject

NOT_DECODED = frozenset({".m4a", ".aac", ".wma", ".amr"})
"""Suffixes of audio that no decoder here reads: walked over too, so that its loss is reported."""
_SOUNDS = EXTENSIONS | NOT_DECODED


@dataclass(frozen=True)
class Level:
    """One folder of a tree: the names in it, in order. ``inside`` leads to it, "" is the root."""

    inside: str
    audio: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    def at(self, name: str) -> str:
        """The path of ``name`` from the root."""
        return f"{self.inside}/{name}" if self.inside else name

    def recordings(self, root: Path) -> Iterator[Recording | Reject]:
        """One for each of ``audio``, named by its path from ``root``.

        A name has no suffix, except where it could be another file's: where files share a stem,
        and where the stem itself looks like a file's name.
        """
        shared = _shared_stems(self.audio)
        speaker = self.inside.split("/")[0]
        for file in self.audio:
            stem, suffix = parted(file)
            name = file if stem in shared or is_audio(stem) else stem
            yield _recording(root / self.at(file), self.at(name), suffix.lower(), speaker)


def walk(root: Path) -> Iterator[Level]:
    """Every folder from ``root`` on, each before its sub-folders in the order of their names.

    A folder that cannot be read is a level with nothing but a reject. Hidden files and folders
    are left out. Links to folders are followed, except one that leads to a folder it lies in:
    that walk would not end.
    """
    pending = [""]
    while pending:
        level = _level(root, pending.pop())
        pending += [level.at(name) for name in reversed(level.folders)]
        yield level


def glance(root: Path, most: int) -> Iterator[Path]:
    """Audio files below ``root``, those of a folder together, until ``most`` names were seen."""
    pending = [root]
    while pending and most > 0:
        with suppress(OSError, ValueError), os.scandir(pending.pop()) as entries:
            for entry in islice(entries, most):
                most -= 1
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    pending.append(Path(entry.path))
                elif is_audio(entry.name):
                    yield Path(entry.path)


def _level(root: Path, inside: str) -> Level:
    level = Level(inside)
    try:
        with os.scandir(root / inside) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    _sort_in(entry, level, root)
    except OSError as error:
        reject = _reject(root / inside, f"{inside}/", "folder cannot be read", error.strerror)
        return Level(inside, rejects=[reject])
    for names in (level.audio, level.others, level.folders):
        names.sort()
    level.rejects.sort(key=lambda reject: reject.name)
    return level


def _sort_in(entry: os.DirEntry[str], level: Level, root: Path) -> None:
    name = level.at(entry.name)
    if _is_folder(entry):
        if not (entry.is_symlink() and _leads_back(root, name)):
            level.folders.append(entry.name)
            return
        level.rejects.append(_reject(root / name, f"{name}/", "link to a folder that it lies in"))
        return
    sounds = parted(entry.name)[1].lower() in _SOUNDS
    if _is_file(entry):
        (level.audio if sounds else level.others).append(entry.name)
    elif sounds:
        level.rejects.append(_reject(root / name, name, "neither a file nor a folder"))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead to each other
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _leads_back(root: Path, link: str) -> bool:
    target = (root / link).resolve()
    *above, _ = link.split("/")
    return any(
        root.joinpath(*above[:depth]).resolve().is_relative_to(target)
        for depth in range(len(above) + 1)
    )


def _shared_stems(files: Collection[str]) -> frozenset[str]:
    if len({parted(file)[1] for file in files}) < 2:
        return frozenset()
    stems = Counter(parted(file)[0] for file in files)
    return frozenset(stem for stem, count in stems.items() if count > 1)


def _recording(path: Path, name: str, suffix: str, speaker: str) -> Recording | Reject:
    try:
        name.encode()
    except UnicodeEncodeError:
        return _reject(path, name, "name is not UTF-8")
    if suffix in NOT_DECODED:
        return _reject(path, name, "audio format is not decoded; convert it", suffix)
    return Recording(name, AudioPlace(path), speaker=speaker)


def _reject(path: Path, name: str, reason: str, figure: str | None = None) -> Reject:
    return Reject(printable(name), reason, figure or "", printable(str(path)))
