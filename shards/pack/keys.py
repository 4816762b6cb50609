"""The names that clips have in shards."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"[%.\\\x00-\x1f\x7f]")
_LIKE_A_PIECE = re.compile(r"@(?=\d{9,}$)")


def key_of(name: str) -> str:
    """The name as a key: different for different names, and safe as a path.

    WebDataset ends a key at the first dot of its last part and takes names that begin with two
    underscores for its own; dots, percent signs, backslashes, control characters and that
    underscore are written as %2E and so on, and so are empty parts and a leading slash.
    """
    escaped = _SPECIAL.sub(_code, name)
    escaped = _LIKE_A_PIECE.sub(_code, escaped)
    escaped = re.sub("^_(?=_)", _code, escaped)
    return "/".join(part or "%2F" for part in escaped.split("/"))


def _code(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"


def piece_name(recording: str, start: float) -> str:
    """What a piece of a long recording is called: the recording and where it begins, in ms."""
    return f"{recording}@{round(start * 1000):09d}"


def piece_key(recording: str, piece: str) -> str:
    """The key of a piece by both names; no clip that is no piece has such a key."""
    return key_of(recording) + piece.removeprefix(recording)
