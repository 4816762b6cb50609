"""Parameters by the words that users have for them: components, and patterns over names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

Components = Mapping[str, tuple[str, ...]]
"""The parts of a model, each with the prefixes of its parameters."""
_MOST_NAMED = 3


def covered(pattern: str, names: Iterable[str], components: Components) -> list[str]:
    """Those of ``names`` in the component ``pattern``, or that fit it with ``*`` and ``?``."""
    if pattern in components:
        return [name for name in names if name.startswith(components[pattern])]
    return [name for name in names if fnmatchcase(name, pattern)]


def nearest(pattern: str, names: Iterable[str], components: Components) -> list[str]:
    """What may have been meant: what is spelt most like it, else what there is."""
    known = [*components, *names]
    close = difflib.get_close_matches(pattern, known, n=_MOST_NAMED, cutoff=0.5)
    return close or [*components] or known[:_MOST_NAMED]


def component_of(name: str, components: Components) -> str | None:
    """The component that a parameter belongs to."""
    fitting = (key for key, prefixes in components.items() if name.startswith(prefixes))
    return next(fitting, None)
