"""Figures of a folder of shards as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from shards.stats.balance import Balance, Group, with_unnamed
from shards.stats.distribution import Distribution, Figure
from shards.stats.measure import Stats
from shards.stats.padding import Bucket, Padding
from shards.stats.plot import Bar, Size, bar_plot, histogram_plot, share_bar
from shards.stats.style import CSS
from shards.stats.wording import hours, printable, share, short

_NAMES = 20
_PLOT, _SMALL_PLOT = Size(760, 220), Size(340, 150)


def page(stats: Stats) -> str:
    """The page: no scripts, nothing from elsewhere, every name escaped."""
    title = _escaped(stats.folder)
    sections = [
        _summary(stats),
        _lengths(stats.seconds),
        _padding(stats.padding),
        _balance("Languages", stats.languages),
        _balance("Sources", stats.sources),
        _speakers(stats.speakers),
        _splits(stats),
        _figures(stats.figures),
        _rejects(stats.rejects),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{CSS}</style></head>\n"
        f"<body>\n<h1><bdi>{title}</bdi></h1>\n{''.join(sections)}</body></html>\n"
    )


def _escaped(name: str) -> str:
    return escape(printable(name))


def _name(name: str) -> str:
    # Isolated: a name that runs from right to left leaves the figures beside it in their order.
    return f"<bdi>{_escaped(name)}</bdi>"


def _section(heading: str, *parts: str) -> str:
    return f"<section><h2>{heading}</h2>\n{''.join(parts)}</section>\n"


def _paragraph(text: str) -> str:
    return f"<p>{text}</p>\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML; a last column without a heading holds bars."""
    last = ' class="bar"' if head[-1] == "" else ""
    headings = "".join(f"<th>{cell}</th>" for cell in head)
    lines = (
        "".join(f"<td>{cell}</td>" for cell in cells) + f"<td{last}>{end}</td>"
        for *cells, end in rows
    )
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table><tr>{headings}</tr>\n{body}</table></div>\n'


def _summary(stats: Stats) -> str:
    facts = {
        "clips": f"{stats.clips:,}",
        "hours": hours(stats.hours),
        "shards": f"{stats.shards:,}",
        "GB on disk": f"{stats.bytes / 1e9:,.2f}",
        "speakers": f"{stats.speakers.count:,}",
        "languages": f"{stats.languages.count:,}",
        "padding, in buckets": share(stats.padding.overall),
        **{f"{name}, total": short(total) for name, total in stats.lengths.items()},
    }
    cells = (f"<div><dt>{_escaped(k)}</dt><dd>{value}</dd></div>" for k, value in facts.items())
    return f"<dl>{''.join(cells)}</dl>\n"


def _lengths(seconds: Distribution) -> str:
    plot = histogram_plot(seconds.histogram, "clips by seconds", _PLOT)
    return _section("Clips by seconds", plot, _paragraph(_told(seconds)))


def _told(found: Distribution) -> str:
    shown = found.histogram
    told = [
        f"{short(found.minimum)} to {short(found.maximum)}",
        f"mean {short(found.mean)}",
        *(f"{p} {short(value)}" for p, value in found.percentiles.items()),
    ]
    if shown.below:
        told.append(f"not shown: {shown.below:,} below {short(shown.edges[0])}")
    if shown.above:
        told.append(f"not shown: {shown.above:,} above {short(shown.edges[-1])}")
    return " ".join(map(_whole, told))


def _whole(text: str) -> str:
    """Text that no line ends in."""
    return f'<span class="whole">{text}</span>'


def _padding(found: Padding) -> str:
    bars = [
        Bar(n, n + 1, (b.hours, _padded(b) - b.hours), _bucket_title(b))
        for n, b in enumerate(found.buckets)
    ]
    marks = [(n + 0.5, f"{b.edge:.1f}") for n, b in enumerate(found.buckets)]
    told = (
        f"Expected padding {share(found.overall)}; {share(found.without)} without buckets. "
        "A clip counts as long as its bucket, which ends at the seconds under it."
    )
    rows = (
        (f"{b.edge:.2f}", f"{b.clips:,}", hours(b.hours), share(b.padding), share_bar(b.padding))
        for b in found.buckets
    )
    return _section(
        "Length buckets",
        _paragraph(told),
        _paragraph(_key("a", "hours of audio") + " " + _key("b", "hours of padding")),
        bar_plot(bars, marks, "hours of audio and of padding by bucket", _PLOT),
        _table(("up to seconds", "clips", "hours", "padding", ""), rows),
    )


def _key(kind: str, meaning: str) -> str:
    return _whole(f'<span class="key {kind}"></span> {meaning}')


def _padded(bucket: Bucket) -> float:
    return bucket.clips * bucket.edge / 3600


def _bucket_title(bucket: Bucket) -> str:
    return f"up to {bucket.edge:.2f} s: {bucket.clips:,} clips, {share(bucket.padding)} padding"


def _balance(heading: str, found: Balance, told: str = "") -> str:
    groups = with_unnamed(found)
    more = found.count + bool(found.unnamed.clips) - len(groups[:_NAMES])
    return _section(
        heading,
        told,
        _groups(groups[:_NAMES]),
        _paragraph(f"and {more:,} more with fewer hours") if more else "",
    )


def _groups(groups: Sequence[Group]) -> str:
    most = groups[0].hours or 1.0
    rows = (
        (_name(g.name), f"{g.clips:,}", hours(g.hours), share_bar(g.hours / most)) for g in groups
    )
    return _table(("name", "clips", "hours", ""), rows)


def _speakers(found: Balance) -> str:
    told = _paragraph(
        f"{found.count:,} named speakers, as even as {short(found.effective)} with equal hours; "
        f"the largest has {share(found.largest_share)} of the named hours, "
        f"the median {hours(found.median_hours)} h."
    )
    return _balance("Speakers", found, told)


def _splits(stats: Stats) -> str:
    if not stats.splits:
        return ""
    rows = (
        (_name(s.name), f"{s.clips:,}", hours(s.hours), f"{s.speakers:,}") for s in stats.splits
    )
    return _section("Splits", _table(("split", "clips", "hours", "speakers"), rows))


def _figures(figures: dict[str, Figure]) -> str:
    if not figures:
        return ""
    plots = (_figure(name, found) for name, found in figures.items())
    return _section("Quality", f'<div class="figures">{"".join(plots)}</div>\n')


def _figure(name: str, found: Figure) -> str:
    parts = [f"<h3>{_name(name)}</h3>"]
    if found.known:
        label = f"clips by {printable(name)}"
        parts.append(histogram_plot(found.known.histogram, label, _SMALL_PLOT))
        parts.append(_paragraph(_told(found.known)))
    if found.unknown:
        parts.append(_paragraph(f"not known of {found.unknown:,} clips"))
    return f"<div>{''.join(parts)}</div>\n"


def _rejects(rejects: dict[str, int] | None) -> str:
    if rejects is None:
        return ""
    if not rejects:
        return _section("Rejects", _paragraph("No clip was rejected."))
    most = max(rejects.values())
    rows = ((_name(r), f"{n:,}", share_bar(n / most)) for r, n in rejects.items())
    told = _paragraph(f"{sum(rejects.values()):,} clips did not get in.")
    return _section("Rejects", told, _table(("reason", "clips", ""), rows))
