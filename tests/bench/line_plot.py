"""Curves as an SVG file: one panel for each of ``Line.panel``, a colour for each name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, MARGIN, ROW = 360, 240, 40, 16
COLOURS = ("#c0392b", "#e67e22", "#2980b9", "#8e44ad", "#27ae60", "#7f8c8d", "#16a085")


@dataclass(frozen=True)
class Line:
    """``points`` are (x, y), ascending by x."""

    name: str
    panel: str
    points: Sequence[tuple[float, float]]


def line_plot(lines: Sequence[Line], across: str, up: str) -> str:
    """The panels side by side under one legend."""
    panels = list(dict.fromkeys(line.panel for line in lines))
    names = list(dict.fromkeys(line.name for line in lines))
    colours = dict(zip(names, COLOURS, strict=False))
    every = [point for line in lines for point in line.points]
    box = _Box(*(f(p[axis] for p in every) for axis in (0, 1) for f in (min, max)))
    parts = []
    for number, panel in enumerate(panels):
        own = [line for line in lines if line.panel == panel]
        drawn = _panel(own, colours, box, f"{up}, {panel}", across)
        parts.append(f'<g transform="translate({number * WIDTH},0)">{drawn}</g>')
    for number, name in enumerate(names):
        y = HEIGHT + ROW * (number + 1)
        parts.append(
            f'<rect x="{MARGIN}" y="{y - 8}" width="18" height="4" fill="{colours[name]}"/>'
        )
        parts.append(f'<text x="{MARGIN + 26}" y="{y}">{escape(name)}</text>')
    size = f"0 0 {WIDTH * len(panels)} {HEIGHT + ROW * (len(names) + 1)}"
    style = "text{font:12px sans-serif;fill:#333}polyline{fill:none;stroke-width:2}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}"><style>{style}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


@dataclass(frozen=True)
class _Box:
    """The range of all points."""

    left: float
    right: float
    low: float
    high: float

    def place(self, x: float, y: float) -> tuple[float, float]:
        wide, tall = (self.right - self.left) or 1, (self.high - self.low) or 1
        return (
            MARGIN + (WIDTH - 1.5 * MARGIN) * (x - self.left) / wide,
            HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (y - self.low) / tall,
        )


def _panel(
    lines: Sequence[Line], colours: dict[str, str], box: _Box, title: str, across: str
) -> str:
    parts = [f'<text x="{MARGIN}" y="20">{escape(title)}</text>']
    for part in range(5):
        value = box.low + (box.high - box.low) * part / 4
        y = box.place(box.left, value)[1]
        parts.append(f'<path d="M{MARGIN} {y:.1f}H{WIDTH - MARGIN / 2}" stroke="#ddd"/>')
        parts.append(f'<text x="{MARGIN - 4}" y="{y + 4:.1f}" text-anchor="end">{value:.1f}</text>')
    for value in (box.left, (box.left + box.right) / 2, box.right):
        x = box.place(value, box.low)[0]
        label = f"{value:.0f}" if value < box.right else f"{across} {value:.0f}"
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle">{label}</text>'
        )
    for line in lines:
        points = " ".join("{:.1f},{:.1f}".format(*box.place(*point)) for point in line.points)
        parts.append(f'<polyline points="{points}" stroke="{colours[line.name]}"/>')
    return "".join(parts)
