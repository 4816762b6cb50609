"""Bar plots as inline SVG. Colours are the page's: classes a and b for bars, grid, and text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from shards.stats.distribution import Histogram
from shards.stats.scale import ticks
from shards.stats.wording import short

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 8, 22
_CLASSES = ("a", "b")


@dataclass(frozen=True)
class Size:
    """Of a plot, in units of its text's pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class Bar:
    """A bar between two places of the x axis: one or two ``heights``, one upon the other."""

    left: float
    right: float
    heights: tuple[float, ...]
    title: str


def bar_plot(bars: Sequence[Bar], marks: Sequence[tuple[float, str]], name: str, size: Size) -> str:
    """An SVG element. ``bars`` ascend; ``marks`` are places of the x axis and what stands there."""
    low, high = bars[0].left, bars[-1].right
    top = max(sum(bar.heights) for bar in bars) or 1.0
    across = (size.width - _LEFT - _RIGHT) / (high - low)
    floor = size.height - _BOTTOM
    up = (floor - _TOP) / top
    parts = [_grid_line(floor - up * value, value, size) for value in ticks(0, top, 4)]
    for bar in bars:
        left, right = _LEFT + across * (bar.left - low), _LEFT + across * (bar.right - low)
        parts.append(_bar(bar, left, right, floor, up))
    for place, text in marks:
        x = _LEFT + across * (place - low)
        parts.append(f'<text x="{x:.1f}" y="{floor + 15}" class="mid">{escape(text)}</text>')
    return (
        f'<svg viewBox="0 0 {size.width} {size.height}" role="img" aria-label="{escape(name)}">'
        f"{''.join(parts)}</svg>"
    )


def _grid_line(y: float, value: float, size: Size) -> str:
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{size.width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" class="end">{short(value)}</text>'
    )


def _bar(bar: Bar, left: float, right: float, floor: float, up: float) -> str:
    gap = min(1.0, (right - left) / 5)
    rects, y = [], floor
    for kind, height in zip(_CLASSES, bar.heights, strict=False):
        y -= up * height
        rects.append(
            f'<rect class="{kind}" x="{left:.2f}" y="{y:.2f}" '
            f'width="{right - left - gap:.2f}" height="{up * height:.2f}"/>'
        )
    return f"<g><title>{escape(bar.title)}</title>{''.join(rects)}</g>"


def histogram_plot(histogram: Histogram, name: str, size: Size) -> str:
    """How many clips lie in each bin."""
    edges = histogram.edges
    bars = [
        Bar(left, right, (count,), f"{short(left)} to {short(right)}: {count:,} clips")
        for left, right, count in zip(edges, edges[1:], histogram.counts, strict=False)
    ]
    marks = [(value, short(value)) for value in ticks(edges[0], edges[-1], size.width // 45)]
    return bar_plot(bars, marks, name, size)


def share_bar(share: float) -> str:
    """A bar that fills ``share`` of where it stands."""
    return (
        '<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="a" width="{100 * share:.2f}" height="8"/></svg>'
    )
