"""Figures and names as people read them."""

from __future__ import annotations

import re

# Control characters, line separators, and marks that turn the direction of what follows them.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LARGE = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


def short(value: float) -> str:
    """About three digits: 0.00123, 12.3, 12,300, 1.23M."""
    for unit, letter in _LARGE:
        if abs(value) >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def hours(value: float) -> str:
    """Hours to a hundredth, fewer than one to three digits."""
    return f"{value:,.2f}" if value >= 1 else f"{value:.3g}"


def share(value: float) -> str:
    """A share as a percentage."""
    return f"{value:.1%}"


def printable(name: str) -> str:
    r"""A name with characters that would not be seen as \\x00, and (none) for an empty one."""
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], name) or "(none)"
