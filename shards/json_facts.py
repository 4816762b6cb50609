"""What JSON says of a clip: length, text, speaker and language, further facts and figures."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any

from shards.index import FACTS, SPLIT

LARGEST = 3.4e38
"""Figures stand in the index as float32."""
DEEPEST = 100
"""Lists and objects within one another; Python's own limit depends on who calls."""
FIGURES = 64
"""Figures of one clip that become columns of the index."""
LONGEST_NAME = 64
"""Bytes of a column's name: columns grow in files called after them."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_WRITTEN = frozenset({"name", "seconds", "text", "spoken", "speaker", "language"})
"""What packing itself writes into a clip's .json."""
_UNDERSTOOD = _WRITTEN | {"duration", "speaker_id", "lang"}
COLUMNS = frozenset({*FACTS, SPLIT})
"""Names in the index that no figure and no array can have."""


class UnusableError(ValueError):
    """What is wrong with what a corpus has for a clip.

    The reason, the figure that decided, and the file it lies in where that is not the audio's.
    """

    def __init__(self, reason: str, value: Any = "", file: str = "") -> None:
        super().__init__(reason)
        self.reason, self.file = reason, file
        self.figure = (value if isinstance(value, str) else repr(value))[:80]


@dataclass(frozen=True)
class Description:
    """A clip as its JSON has it; "" or None for what is not said.

    ``facts`` are all fields that packing does not write itself, as they came; ``figures`` are the
    finite numbers among them whose names can be columns of the index.
    """

    name: str
    seconds: float | None
    text: str
    speaker: str
    language: str
    facts: Mapping[str, Any]
    figures: Mapping[str, float]


def parse_object(data: str | bytes) -> dict[str, Any]:
    """The JSON object in ``data``; UnusableError for anything else and what cannot be stored."""
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        found = json.loads(text)
    except UnicodeDecodeError as error:
        raise UnusableError("JSON that is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise UnusableError("not JSON", str(error)) from error
    if not isinstance(found, dict):
        raise UnusableError("JSON that is no object", type(found).__name__)
    _require_shallow(found)
    if _SURROGATE.search(text):
        _require_unicode(found)
    return found


def _require_shallow(found: dict[str, Any]) -> None:
    level: list[Any] = [found]
    for _ in range(DEEPEST):
        level = [child for one in level for child in _nested(one)]
        if not level:
            return
    raise UnusableError("JSON that is nested too deep", f"more than {DEEPEST} levels")


def _nested(found: dict[str, Any] | list[Any]) -> list[Any]:
    children = found.values() if isinstance(found, dict) else found
    return [child for child in children if isinstance(child, (dict, list))]


def _require_unicode(found: dict[str, Any]) -> None:
    # Half of a surrogate pair passes for JSON, but nothing can store it.
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UnusableError("JSON with half a surrogate pair") from error


def described(fields: Mapping[str, Any], used: Collection[str] = ()) -> Description:
    """What ``fields`` say of a clip, besides those already ``used``.

    Understood are this project's own names and those of NeMo and Emilia; UnusableError for a wrong
    type.
    """
    facts, figures = facts_and_figures(fields, used)
    name = fields.get("name")
    return Description(
        name=name if isinstance(name, str) else "",
        seconds=length(fields, "seconds", "duration"),
        text=string(fields, "text"),
        speaker=string(fields, "speaker", "speaker_id"),
        language=string(fields, "language", "lang"),
        facts=facts,
        figures=figures,
    )


def string(fields: Mapping[str, Any], *names: str) -> str:
    """The first of the fields that is there, "" if none is; whole numbers pass for strings."""
    for name in names:
        value = fields.get(name)
        if value is None or value == "":
            continue
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise UnusableError(f"{name} is not a string", value)
        return str(value)
    return ""


def length(fields: Mapping[str, Any], *names: str) -> float | None:
    """The first of the fields that is there, in seconds; UnusableError if it is not above 0."""
    for name in names:
        seconds = number(fields, name)
        if seconds is None:
            continue
        if seconds <= 0:
            raise UnusableError(f"{name} is not above zero", seconds)
        return seconds
    return None


def number(fields: Mapping[str, Any], name: str) -> float | None:
    """A field that is a finite number, None if it is not there."""
    value = fields.get(name)
    if value is None:
        return None
    found = _finite(value)
    if found is None:
        raise UnusableError(f"{name} is not a number", value)
    return found


def facts_and_figures(
    fields: Mapping[str, Any], used: Collection[str] = ()
) -> tuple[dict[str, Any], dict[str, float]]:
    """Facts and figures among ``fields``, see `Description`."""
    facts: dict[str, Any] = {}
    figures: dict[str, float] = {}
    for name, value in fields.items():
        if name in _WRITTEN or name in used:
            continue
        facts[name] = value
        found = _finite(value)
        usable = name not in _UNDERSTOOD and usable_column(name)
        if found is not None and usable and len(figures) < FIGURES:
            figures[name] = found
    return facts, figures


def usable_column(name: str) -> bool:
    """Whether a figure of this name can be a column of the index that filters can ask for."""
    return name.isidentifier() and not iskeyword(name) and free_column(name)


def free_column(name: str) -> bool:
    """Whether no column of ours has the name; an array's, like "16k", need be no identifier."""
    if name in COLUMNS or name.startswith(("_", "#")):
        return False
    return len(name.encode()) <= LONGEST_NAME


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if -LARGEST < value < LARGEST else None  # NaN is neither
