"""A terminal as a program sees it: what is left on it, and what was on it in between."""

from __future__ import annotations

import re

_PIECE = re.compile(
    r"\x1b\[\?25(?P<cursor>[lh])|\x1b\[[\d;]*m|\x1b\[(?P<up>\d*)A|(?P<erase>\x1b\[2K)|"
    r"(?P<control>[\r\n])|(?P<text>[^\x00-\x1f]+)"
)


class Screen:
    """Rows of a terminal of ``width`` columns that never scrolls.

    It knows the sequences that a display of a few lines needs, and refuses all others.
    """

    def __init__(self, width: int) -> None:
        self._width, self._rows = width, [""]
        self._row = self._column = 0
        self.shows_cursor = True

    @property
    def text(self) -> str:
        """What can be read."""
        return "\n".join(row.rstrip() for row in self._rows)

    def write(self, output: str) -> None:
        """Obey whole sequences; ValueError for one that is not known."""
        position = 0
        while position < len(output):
            found = _PIECE.match(output, position)
            if not found:
                raise ValueError(f"what is {output[position : position + 20]!r}?")
            self._obey(found)
            position = found.end()

    def _obey(self, found: re.Match[str]) -> None:
        if found["cursor"]:
            self.shows_cursor = found["cursor"] == "h"
        elif found["up"] is not None:
            self._row = max(0, self._row - int(found["up"] or 1))
        elif found["erase"]:
            self._rows[self._row] = ""
        elif found["control"] == "\r":
            self._column = 0
        elif found["control"] == "\n":
            self._down()
        for letter in found["text"] or "":
            self._put(letter)

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self._rows):
            self._rows.append("")

    def _put(self, letter: str) -> None:
        if self._column == self._width:
            self._down()
            self._column = 0
        row = self._rows[self._row].ljust(self._column)
        self._rows[self._row] = row[: self._column] + letter + row[self._column + 1 :]
        self._column += 1
