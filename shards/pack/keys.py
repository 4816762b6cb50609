"""The names that clips have in shards."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"[%.\\\x00-\x1f\x7f]")


def key_of(name: str) -> str:
    """The name as a key: different for different names, and safe as a path.

    WebDataset ends a key at the first dot of its last part; dots, percent signs, backslashes and
    control characters are written as %2E and so on, and so are empty parts and a leading slash.
    """
    escaped = _SPECIAL.sub(lambda found: f"%{ord(found[0]):02X}", name)
    return "/".join(part or "%2F" for part in escaped.split("/"))


def piece_name(name: str, start: float) -> str:
    """What a piece of a long recording is called: the recording and where it begins, in ms."""
    return f"{name}_{round(start * 1000):09d}"
