from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from typer.testing import CliRunner

from shards.buckets import edges_of
from shards.cli import app
from shards.errors import UserError
from shards.index import ClipRow, ShardFacts
from shards.index_writer import IndexWriter, rows_table, write_index
from shards.stats.balance import balance, splits, tally
from shards.stats.distribution import BINS, PERCENTILES, figure
from shards.stats.measure import Stats, measure
from shards.stats.padding import padding
from shards.stats.page import page
from shards.stats.scale import round_step, ticks
from shards.stats.wording import hours, printable, short

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=y>',
    "&amp;",
    "[bold]Eve[/bold]",
    "tab\there\x00\x1b[31m",
    "\u202egnp",
    "سارة",
    "田中",
    "",
)


def row(number: int, seconds: float, speaker: str = "a", **figures: float) -> ClipRow:
    return ClipRow(
        key=f"c{number}",
        shard="00000.tar",
        offset=0,
        size=0,
        members=(),
        seconds=seconds,
        speaker=speaker,
        language="en",
        source="s",
        lengths={"semantic": round(25 * seconds)},
        largest={},
        figures=figures,
    )


def write(folder: Path, rows: Sequence[ClipRow], bytes_on_disk: int = 5_000_000_000) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_index(folder, rows, [ShardFacts("00000.tar", len(rows), bytes_on_disk, 0)], {})
    return folder


def write_rejects(folder: Path, **columns: list[str]) -> None:
    pyarrow.parquet.write_table(pa.table(columns), folder / "rejects.parquet")


def hostile(folder: Path) -> Path:
    rows = [row(n, 1.0 + n, name, **{"snr_db<b>": n / 3}) for n, name in enumerate(HOSTILE)]
    write(folder, rows)
    write_rejects(folder, reason=["not <audio>", "not <audio>", "too\tshort"])
    return folder


def in_parts(values: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (values[start : start + size] for start in range(0, len(values), size))


floats = arrays.arrays(
    np.float32,
    st.integers(1, 200),
    elements=st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.5, math.nan, -7.0]),
)
lengths = arrays.arrays(np.float32, st.integers(1, 300), elements=st.floats(0.125, 60, width=32))


@given(values=floats, size=st.integers(1, 50))
def test_percentiles_are_exact_however_a_column_is_cut(values: np.ndarray, size: int) -> None:
    found = figure(lambda: in_parts(values, size))
    finite = values[np.isfinite(values)].astype(np.float64)
    assert found.unknown == len(values) - len(finite)
    if len(finite) == 0:
        assert found.known is None
        return
    assert found.known is not None
    expected = np.percentile(finite, PERCENTILES, method="inverted_cdf")
    assert list(found.known.percentiles.values()) == expected.tolist()
    assert (found.known.minimum, found.known.maximum) == (finite.min(), finite.max())
    assert found.known.mean == pytest.approx(finite.mean(), rel=1e-9, abs=1e-9 * abs(finite).max())


@given(values=floats, size=st.integers(1, 50))
def test_every_finite_value_is_in_one_bin_or_outside(values: np.ndarray, size: int) -> None:
    found = figure(lambda: in_parts(values, size)).known
    if found is None:
        return
    shown = found.histogram
    assert shown.below + sum(shown.counts) + shown.above == np.isfinite(values).sum()
    assert len(shown.edges) == len(shown.counts) + 1 <= BINS + 3
    assert all(left < right for left, right in zip(shown.edges, shown.edges[1:], strict=False))


def test_bins_count_what_lies_between_their_edges() -> None:
    values = np.linspace(1, 60, 600, dtype=np.float32)
    found = figure(lambda: [values]).known
    assert found is not None
    counts, _ = np.histogram(values, found.histogram.edges)
    assert list(found.histogram.counts) == counts.tolist()
    assert found.histogram.edges[:3] == (1, 2, 3)


def test_one_absurd_value_does_not_flatten_a_histogram() -> None:
    values = np.append(np.linspace(10, 40, 1000), [-1e9, 1e9]).astype(np.float32)
    found = figure(lambda: [values]).known
    assert found is not None
    assert (found.histogram.below, found.histogram.above) == (1, 1)
    assert sum(count > 0 for count in found.histogram.counts) > 15
    assert (found.minimum, found.maximum) == (-1e9, 1e9)


@given(seconds=lengths, size=st.integers(1, 80))
def test_buckets_are_those_of_a_run_and_hold_every_clip(seconds: np.ndarray, size: int) -> None:
    found = padding(lambda: in_parts(seconds, size), float(seconds.min()), float(seconds.max()))
    assert [b.edge for b in found.buckets] == edges_of(seconds, 16).tolist()
    assert sum(b.clips for b in found.buckets) == len(seconds)
    total = seconds.sum(dtype=np.float64)
    assert sum(b.hours for b in found.buckets) == pytest.approx(total / 3600)
    padded = sum(b.clips * b.edge for b in found.buckets)
    assert found.overall == pytest.approx(1 - total / padded, abs=1e-9)
    assert found.without == pytest.approx(
        1 - total / (len(seconds) * float(seconds.max())), abs=1e-9
    )
    assert 0 <= found.overall <= found.without + 1e-12


def test_each_bucket_says_what_it_wastes() -> None:
    seconds = np.array([1] * 6 + [2] * 4 + [10] * 2, dtype=np.float32)
    found = padding(lambda: [seconds], 1, 10)
    assert [bucket.clips for bucket in found.buckets] == [6, 4, 2]
    for bucket, longest in zip(found.buckets, (1, 2, 10), strict=True):
        assert bucket.padding == pytest.approx(1 - longest / bucket.edge)
    assert found.buckets[-1].padding == 0
    assert found.without == pytest.approx(1 - 34 / 120)


def test_balance_counts_those_with_a_name_and_with_clips() -> None:
    names = pa.array(["big", "", "unused", "small"])
    codes, seconds = np.array([0, 0, 3, 1, 1]), np.array([2700, 2700, 1800, 100, 80])
    parts = [(codes[:3], seconds[:3]), (codes[3:], seconds[3:])]
    found = balance(tally(names, parts))
    assert found.count == 2
    assert found.largest_share == 0.75
    assert found.median_hours == 1.0
    assert found.effective == pytest.approx(math.exp(-0.75 * math.log(0.75) + 0.25 * math.log(4)))
    assert (found.unnamed.clips, found.unnamed.hours) == (2, 0.05)
    assert [(g.name, g.clips, g.hours) for g in found.largest] == [
        ("big", 2, 1.5),
        ("small", 1, 0.5),
    ]


@given(seconds=st.lists(st.floats(0, 1e6), min_size=1, max_size=150))
def test_no_corpus_is_more_even_than_all_its_speakers(seconds: list[float]) -> None:
    names = pa.array([f"n{number}" for number in range(len(seconds))])
    found = balance(tally(names, [(np.arange(len(seconds)), np.array(seconds))]))
    assert found.effective <= len(seconds) + 1e-6
    assert found.largest_share <= 1
    assert len(found.largest) == min(100, len(seconds))
    if sum(seconds):
        assert found.effective >= 1 - 1e-9


def test_equal_speakers_count_in_full() -> None:
    names = pa.array([str(number) for number in range(7)])
    found = balance(tally(names, [(np.arange(7), np.full(7, 5.0))]))
    assert found.effective == pytest.approx(7)


def test_splits_name_their_speakers_but_not_the_nameless() -> None:
    names, speakers = pa.array(["train", "validation", "unused"]), pa.array(["a", "b", "", "c"])
    split, speaker = np.array([0, 0, 0, 0, 1]), np.array([0, 1, 1, 2, 3])
    counted = tally(names, [(split, np.full(5, 3600.0))])
    found = splits(counted, [(split[:2], speaker[:2]), (split[2:], speaker[2:])], speakers)
    assert [(s.name, s.clips, s.hours, s.speakers) for s in found] == [
        ("train", 4, 4.0, 2),
        ("validation", 1, 1.0, 1),
    ]


def test_a_folder_is_measured(tmp_path: Path) -> None:
    rows = [row(0, 1800, "a", snr_db=10), row(1, 3600, "b"), row(2, 1800, "b", snr_db=30)]
    folder = write(tmp_path, rows)
    write_rejects(folder, reason=["too short", "clipped", "too short"])
    found = measure(folder)
    assert (found.clips, found.hours, found.shards, found.bytes) == (3, 2.0, 1, 5_000_000_000)
    assert found.seconds.percentiles["p50"] == 1800
    assert found.figures["snr_db"].unknown == 1
    known = found.figures["snr_db"].known
    assert known is not None and (known.minimum, known.maximum, known.mean) == (10, 30, 20)
    assert found.lengths == {"semantic": 180_000}
    assert found.speakers.largest[0].name == "b"
    assert found.splits == ()
    assert list(found.rejects.items()) == [("too short", 2), ("clipped", 1)]


def test_a_validation_split_is_told(tmp_path: Path) -> None:
    rows = [row(0, 3600, "a"), row(1, 3600, "b"), row(2, 3600, "c")]
    table = rows_table(rows).append_column("split", pa.array(["train", "validation", "train"]))
    writer = IndexWriter(tmp_path, lengths=["semantic"], figures=[], names=["split"])
    writer.add(table, [ShardFacts("00000.tar", 3, 1, 0)])
    writer.finish(tmp_path, {"largest": {}})
    found = {split.name: split for split in measure(tmp_path).splits}
    assert (found["train"].clips, found["train"].hours, found["train"].speakers) == (2, 2.0, 2)
    assert found["validation"].speakers == 1
    assert "validation" in run(tmp_path)


def run(folder: Path, *options: str) -> str:
    result = CliRunner().invoke(app, ["stats", str(folder), *options], catch_exceptions=False)
    assert result.exit_code == 0
    return str(result.stdout)


def refusal(folder: Path, *options: str) -> str:
    result = CliRunner().invoke(app, ["stats", str(folder), *options])
    assert isinstance(result.exception, UserError)
    return str(result.exception)


def test_json_is_one_object_with_every_field(tmp_path: Path) -> None:
    told = json.loads(run(hostile(tmp_path), "--json"))
    assert set(told) == set(Stats.__dataclass_fields__)
    assert {group["name"] for group in told["speakers"]["largest"]} == set(HOSTILE) - {""}
    assert told["rejects"] == {"not <audio>": 2, "too\tshort": 1}
    assert told["seconds"]["percentiles"]["p50"] == 5


def test_json_stays_json_where_nothing_is_known_or_infinite(tmp_path: Path) -> None:
    rows = [row(0, 1, snr_db=math.inf, peak=math.nan), row(1, 1, snr_db=3)]
    told = json.loads(run(write(tmp_path, rows), "--json"), parse_constant=pytest.fail)
    assert told["figures"]["peak"] == {"unknown": 2, "known": None}
    assert told["figures"]["snr_db"]["unknown"] == 1
    assert told["rejects"] is None


def test_the_terminal_shows_names_as_they_are_and_no_control_characters(tmp_path: Path) -> None:
    shown = run(hostile(tmp_path))
    for word in ("clips", "hours", "padding", "p50", "not <audio>", "too\\tshort", "snr_db<b>"):
        assert word in shown
    assert not set(shown) & {"\x00", "\x1b", "\t", "\u202e"}


def test_languages_and_sources_that_look_like_markup_are_shown(tmp_path: Path) -> None:
    clip = row(0, 3600)
    names = {"language": "[red]en", "source": "a[/b]:smile:"}
    folder = write(tmp_path, [ClipRow(**{**vars(clip), **names})])
    shown = run(folder)
    assert "[red]en 1.00 h (1)" in shown
    assert "a[/b]:smile:" in shown


class Page(HTMLParser):
    """What a browser would make of a page: its tags with attributes, its text, open tags."""

    VOID = ("meta", "rect", "line")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


KNOWN_TAGS = {"html", "head", "meta", "title", "style", "body", "section", "div", "span", "bdi"}
KNOWN_TAGS |= {"h1", "h2", "h3", "p", "dl", "dt", "dd", "table", "tr", "th", "td"}
KNOWN_TAGS |= {"svg", "g", "rect", "line", "text"}


def test_the_page_is_sound_and_needs_nothing_else(tmp_path: Path) -> None:
    folder = hostile(tmp_path)
    run(folder, "--html", str(tmp_path / "page.html"))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    seen = Page(text)
    assert seen.open == []
    assert {tag for tag, _ in seen.tags} <= KNOWN_TAGS
    attributes = {name for _, attrs in seen.tags for name in attrs}
    assert not attributes & {"src", "href", "onerror", "style"}
    assert "url(" not in text and "@import" not in text and "//" not in text
    assert list(tmp_path.glob(".*page.html*")) == []


def test_the_page_shows_every_name_as_text(tmp_path: Path) -> None:
    seen = Page(page(measure(hostile(tmp_path))))
    for name in (*HOSTILE, "not <audio>", "too\tshort", "snr_db<b>"):
        assert printable(name) in seen.text
    assert not set(seen.text) & {"\x00", "\x1b", "\u202e"}


def test_bars_of_the_page_are_as_high_as_their_counts(tmp_path: Path) -> None:
    seconds = [1.0] * 10 + [21.0] * 5 + [61.0]
    stats = measure(write(tmp_path, [row(n, s) for n, s in enumerate(seconds)]))
    plot = page(stats).partition("Clips by seconds")[2].partition("</svg>")[0]
    rects = [attrs for tag, attrs in Page(plot.partition(">")[2] + "</svg>").tags if tag == "rect"]
    heights = [float(rect["height"] or 0) for rect in rects]
    assert len(heights) == len(stats.seconds.histogram.counts)
    tallest = max(heights)
    filled = [round(10 * height / tallest, 1) for height in heights if height]
    assert filled == [10, 5, 1]


@pytest.mark.parametrize("seconds", [[0.0], [0.0, 0.0], [3.5], [1e-3, 4000.0]])
def test_the_smallest_corpora_have_figures_too(tmp_path: Path, seconds: list[float]) -> None:
    folder = write(tmp_path, [row(n, length, "") for n, length in enumerate(seconds)])
    assert "none named" in run(folder, "--html", str(tmp_path / "page.html"))
    assert Page((tmp_path / "page.html").read_text(encoding="utf-8")).open == []
    assert 0 <= json.loads(run(folder, "--json"))["padding"]["overall"] < 1


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    missing = tmp_path / "no index here"
    assert "is not there" in refusal(missing, "--html", str(tmp_path / "gone" / "page.html"))
    assert "is a folder" in refusal(missing, "--html", str(tmp_path))


def test_a_folder_without_shards_or_without_clips_is_refused(tmp_path: Path) -> None:
    assert "is not there" in refusal(tmp_path / "gone")
    assert "holds no index.arrow" in refusal(tmp_path)
    assert "lists no clips" in refusal(write(tmp_path / "empty", []))


def test_clips_without_a_length_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, [ClipRow(**{**vars(row(0, 1)), "seconds": math.nan}), row(1, 1)])
    assert "1 clips without a length" in refusal(folder)


def test_rejects_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path, [row(0, 1)])
    (folder / "rejects.parquet").write_bytes(b"PAR1 and then nothing")
    assert "rejects.parquet" in refusal(folder)
    write_rejects(folder, why=["too short"])
    assert "rejects.parquet" in refusal(folder)


def test_no_rejects_and_no_list_of_them_are_told_apart(tmp_path: Path) -> None:
    folder = write(tmp_path, [row(0, 1)])
    assert measure(folder).rejects is None
    write_rejects(folder, reason=[])
    assert measure(folder).rejects == {}


@given(least=st.floats(1e-30, 1e30))
def test_a_round_step_is_just_above_what_was_asked(least: float) -> None:
    step = round_step(least)
    assert least <= step <= 2.6 * least
    assert round(step / 10 ** math.floor(math.log10(step * 1.0001))) in (1, 2, 5)


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-3, 1e6), most=st.integers(2, 12))
def test_ticks_are_few_and_lie_inside(low: float, span: float, most: int) -> None:
    marks = ticks(low, low + span, most)
    assert len(marks) <= most
    slack = 1e-9 * (abs(low) + span)
    assert all(low - slack <= mark <= low + span + slack for mark in marks)


def test_numbers_are_short() -> None:
    told = [short(value) for value in (0, 0.00123, 0.5, 12.345, 12345.6, 1.5e6, -2e9)]
    assert told == ["0", "0.0012", "0.5", "12.3", "12,346", "1.5M", "-2G"]
    assert [hours(value) for value in (1234.5, 0.25, 0.00123)] == ["1,234.50", "0.250", "0.0012"]


def test_an_empty_name_and_unseen_characters_are_made_visible() -> None:
    assert printable("") == "(none)"
    assert printable("a\tb\x00\u202e") == "a\\tb\\x00\\u202e"
    assert printable("Søren 田中 سارة") == "Søren 田中 سارة"
