"""Figures and names as people read them."""

from __future__ import annotations

import re

# Control characters, line separators, and marks that turn the direction of what follows them.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LARGE = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


def short(value: float) -> str:
    """Two or three digits: 0.0012, 0.123, 12.3, 12,300, 1.23M."""
    for unit, letter in _LARGE:
        if abs(value) >= unit:
            return f"{value / unit:.3g}{letter}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.01 else f"{value:.2g}"


def hours(value: float) -> str:
    """Hours to a hundredth, of less than one to a thousandth, of less than 36 s to two digits."""
    if value >= 1:
        return f"{value:,.2f}"
    return f"{value:.3f}" if value >= 0.01 else f"{value:.2g}"


def share(value: float) -> str:
    """A share as a percentage."""
    return f"{value:.1%}"


def printable(name: str) -> str:
    r"""A name with characters that would not be seen as \\x00, and (none) for an empty one."""
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], name) or "(none)"
