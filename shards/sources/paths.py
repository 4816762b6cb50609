"""Names of files: which are audio, what a clip is called after them, how they are printed."""

from __future__ import annotations

import os
from pathlib import Path

from shards.audio import EXTENSIONS


def is_file(path: Path) -> bool:
    """Whether there is a file; False where that cannot be found out, as `Path.is_file` raises."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether there is a folder; False where that cannot be found out."""
    try:
        return path.is_dir()
    except OSError:
        return False


def parted(name: str) -> tuple[str, str]:
    """A file's name as (stem, suffix with its dot)."""
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem else (name, "")


def is_audio(name: str) -> bool:
    """Whether a name has the suffix of audio that can be decoded."""
    return parted(name)[1].lower() in EXTENSIONS


def without_wav(name: str) -> str:
    """A file's name without ``.wav``: other suffixes stay, so that a.flac is not a.wav's name."""
    stem = name.removesuffix(".wav")
    return name if is_audio(stem) or stem.endswith("/") else stem or name


def printable(name: str) -> str:
    """A file name with its bytes that are not UTF-8 written as ``\\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
