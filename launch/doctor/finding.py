"""What a check of the doctor came to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it stands, what was found, and what mends it."""

    name: str
    state: State
    found: str
    remedy: str = ""


def ok(name: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(name, "ok", found)


def warning(name: str, found: str, remedy: str) -> Finding:
    """A run works, and slower or less safely than it could."""
    return Finding(name, "warning", found, remedy)


def fail(name: str, found: str, remedy: str) -> Finding:
    """A run will not work."""
    return Finding(name, "fail", found, remedy)


def exit_code(findings: Iterable[Finding]) -> int:
    """1 where something fails, 0 where a run can start."""
    return int(any(finding.state == "fail" for finding in findings))
