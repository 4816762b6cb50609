"""Figures of a folder of shards as tables in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from shards.stats.balance import Balance, with_unnamed
from shards.stats.distribution import PERCENTILES, Distribution, Figure, Histogram
from shards.stats.measure import Stats
from shards.stats.wording import hours, printable, share, short

_NAMES = 8
_ROWS = 20
_BAR = 36
_PIPED = 100


def show(stats: Stats) -> None:
    """Print everything to stdout."""
    # Without markup: a speaker may be called [bold].
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, _PIPED)
    console.print(_facts(stats))
    console.print(_histogram(stats.seconds.histogram))
    console.print(_buckets(stats))
    if stats.figures:
        console.print(_figures(stats.figures))
    if stats.rejects:
        console.print(_rejects(stats.rejects))


def _facts(stats: Stats) -> Table:
    table = Table(title=printable(stats.folder), show_header=False, box=box.SIMPLE)
    table.add_row("clips", f"{stats.clips:,}")
    table.add_row("hours", hours(stats.hours))
    table.add_row("shards", f"{stats.shards:,} ({stats.bytes / 1e9:,.2f} GB)")
    table.add_row("speakers", _speakers(stats.speakers))
    table.add_row("languages", _groups(stats.languages))
    table.add_row("sources", _groups(stats.sources))
    for split in stats.splits:
        told = f"{split.clips:,} clips, {hours(split.hours)} h, {split.speakers:,} speakers"
        table.add_row(printable(split.name), told)
    table.add_row("seconds", _seconds(stats.seconds))
    for name, total in stats.lengths.items():
        table.add_row(f"{printable(name)}, total", f"{total:,}")
    return table


def _speakers(speakers: Balance) -> str:
    if speakers.count == 0:
        return "none named"
    return (
        f"{speakers.count:,}, as even as {short(speakers.effective)} with equal hours; "
        f"the largest has {share(speakers.largest_share)}, "
        f"the median {hours(speakers.median_hours)} h"
        + (f"; {hours(speakers.unnamed.hours)} h have no name" if speakers.unnamed.clips else "")
    )


def _groups(found: Balance) -> str:
    groups = with_unnamed(found)
    shown = [f"{printable(g.name)} {hours(g.hours)} h ({g.clips:,})" for g in groups[:_NAMES]]
    more = found.count + bool(found.unnamed.clips) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def _seconds(seconds: Distribution) -> str:
    middle = "  ".join(f"{name} {value:.1f}" for name, value in seconds.percentiles.items())
    return f"{seconds.minimum:.1f} to {seconds.maximum:.1f}: {middle}"


def _histogram(lengths: Histogram) -> Table:
    merged = -(-len(lengths.counts) // _ROWS)
    starts = range(0, len(lengths.counts), merged)
    counts = [sum(lengths.counts[start : start + merged]) for start in starts]
    labels = [f"{short(lengths.edges[start])}" for start in starts]
    if lengths.above:
        counts, labels = [*counts, lengths.above], [*labels, f"{short(lengths.edges[-1])} and more"]
    table = _table("lengths", "from seconds", "clips", "")
    for label, count, bar in zip(labels, counts, _bars(counts), strict=True):
        table.add_row(label, f"{count:,}", bar)
    return table


def _buckets(stats: Stats) -> Table:
    found = stats.padding
    title = f"length buckets: {share(found.overall)} padding ({share(found.without)} without)"
    table = _table(title, "up to seconds", "clips", "hours", "padding", "")
    for bucket, bar in zip(found.buckets, _bars([b.clips for b in found.buckets]), strict=True):
        told = (f"{bucket.clips:,}", hours(bucket.hours), share(bucket.padding))
        table.add_row(f"{bucket.edge:.2f}", *told, bar)
    return table


def _figures(figures: dict[str, Figure]) -> Table:
    names = [f"p{p}" for p in PERCENTILES]
    table = _table("quality", "", *names, "unknown")
    for name, figure in figures.items():
        known = figure.known.percentiles if figure.known else {}
        values = [short(known[p]) if p in known else "-" for p in names]
        table.add_row(printable(name), *values, f"{figure.unknown:,}")
    return table


def _rejects(rejects: dict[str, int]) -> Table:
    table = _table(f"{sum(rejects.values()):,} rejected", "reason", "clips")
    for reason, count in rejects.items():
        table.add_row(printable(reason), f"{count:,}")
    return table


def _table(title: str, *columns: str) -> Table:
    """Names may run over several lines, figures not; a column without a heading holds bars."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    first, *others = columns
    table.add_column(first, overflow="fold")
    for column in others:
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    return table


def _bars(counts: Sequence[int]) -> Iterable[str]:
    most = max(counts)
    return ("#" * round(_BAR * count / most) for count in counts)
