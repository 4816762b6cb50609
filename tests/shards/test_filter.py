from __future__ import annotations

import json
import math
import operator
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from indexes import corpus_of, index_of, lognormal
from typer.testing import CliRunner

from shards.cli import app
from shards.dataset import DataConfig, open_plan
from shards.errors import UserError
from shards.filter import MAX_CHARACTERS, Filter
from shards.index import Index
from shards.plan import BatchConfig, Plan, changed_settings
from shards.selection import Selection, Split

BATCH = BatchConfig(seconds=108, micro_seconds=54)
Row = dict[str, Any]


class Asked(NamedTuple):
    """A piece of a filter, and the same in plain Python about one clip."""

    text: str
    of: Callable[[Row], Any]


COMPARED = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
# Quarters: exact in float32 as well as in float64, and so are sums and products of two of them.
quarters = st.integers(-40, 240).map(lambda n: n / 4)
SPEAKERS = ["ann", "böb", "陈", "x'y\"z", ""]
LANGUAGES = ["en", "zh"]


def constant(value: float) -> Asked:
    return Asked(f"({value})" if value < 0 else f"{value:g}", lambda row: value)


def column(name: str) -> Asked:
    return Asked(name, lambda row: row[name])


def sum_of(left: Asked, sign: str, right: Asked) -> Asked:
    def worked_out(row: Row) -> float:
        a, b = float(left.of(row)), float(right.of(row))
        if sign == "/":
            return a / b if b else math.nan
        return {"+": a + b, "-": a - b, "*": a * b}[sign]

    return Asked(f"({left.text} {sign} {right.text})", worked_out)


def compared(numbers: list[Asked], signs: list[str]) -> Asked:
    text = numbers[0].text
    for sign, number in zip(signs, numbers[1:], strict=False):
        text += f" {sign} {number.text}"

    def holds(row: Row) -> bool:
        values = [number.of(row) for number in numbers]
        pairs = zip(values, signs, values[1:], strict=False)
        return all(
            not math.isnan(a) and not math.isnan(b) and COMPARED[sign](a, b) for a, sign, b in pairs
        )

    return Asked(text, holds)


def among(item: Asked, values: list[Any], wanted: bool) -> Asked:
    def holds(row: Row) -> bool:
        value = item.of(row)
        return value == value and (value in values) == wanted

    listed = ", ".join(map(repr, values))
    return Asked(f"{item.text} {'in' if wanted else 'not in'} [{listed}]", holds)


def named(name: str, sign: str, value: str) -> Asked:
    return Asked(f"{name} {sign} {value!r}", lambda row: COMPARED[sign](row[name], value))


columns = st.sampled_from(["seconds", "snr_db", "clipping", "phonemes", "semantic"]).map(column)
simple = columns | quarters.map(constant)
numbers = columns | st.builds(sum_of, columns, st.sampled_from("+-*/"), simple)
comparisons = st.builds(
    lambda first, more: compared(
        [first, *(number for _, number in more)], [sign for sign, _ in more]
    ),
    numbers,
    st.lists(st.tuples(st.sampled_from([*COMPARED]), simple), min_size=1, max_size=3),
)
questions = st.one_of(
    comparisons,
    st.builds(among, columns, st.lists(quarters, max_size=6), st.booleans()),
    st.builds(
        named, st.just("speaker"), st.sampled_from(["==", "!="]), st.sampled_from([*SPEAKERS, "no"])
    ),
    st.builds(
        among,
        st.just(column("language")),
        st.lists(st.sampled_from([*LANGUAGES, "de"]), max_size=3),
        st.booleans(),
    ),
)
filters = st.recursive(
    questions,
    lambda inner: st.one_of(
        inner.map(lambda one: Asked(f"not ({one.text})", lambda row: not one.of(row))),
        st.tuples(inner, inner).map(
            lambda both: Asked(
                f"({both[0].text}) and ({both[1].text})",
                lambda row: both[0].of(row) and both[1].of(row),
            )
        ),
        st.tuples(inner, inner).map(
            lambda both: Asked(
                f"({both[0].text} or {both[1].text})",
                lambda row: both[0].of(row) or both[1].of(row),
            )
        ),
    ),
    max_leaves=6,
)


def figured(clips: int, per_shard: int, seed: int) -> Index:
    """Clips whose numbers are quarters and whose figures are not always known."""
    random = np.random.default_rng(seed)
    figures = random.integers(-40, 200, (2, clips)) / 4
    figures[random.random(figures.shape) < 0.2] = np.nan
    return index_of(
        random.integers(1, 200, clips) / 4,
        per_shard,
        seed,
        figures={"snr_db": figures[0], "clipping": figures[1]},
        names={
            "speaker": random.choice(SPEAKERS, clips).tolist(),
            "language": random.choice(LANGUAGES, clips).tolist(),
        },
    )


def rows_of(index: Index) -> list[Row]:
    names = ["seconds", *index.about["lengths"], *index.figures, "speaker", "language"]
    return index.table.select(names).to_pylist()


def seen_in(plan: Plan, epoch: int = 0) -> Counter[int]:
    steps = plan.steps(plan.step_at(epoch), plan.step_at(epoch + 1))
    shares = (micro for step in steps for micro in plan.share(step) if micro.counted)
    return Counter(int(row) for micro in shares for row in micro.rows)


def filtered(index: Index, text: str | None, split: Split = "train") -> Plan:
    corpus = corpus_of((index, 1))
    chosen = None if text is None else Filter.parse(text)
    return Plan(corpus, seed=0, batch=BATCH, selection=Selection(corpus, chosen, split))


@given(st.builds(figured, st.integers(1, 120), st.integers(1, 60), st.integers(0, 9)), filters)
@settings(max_examples=250, deadline=None)
def test_an_epoch_holds_exactly_the_clips_that_satisfy_the_filter_each_once(
    index: Index, asked: Asked
) -> None:
    wanted = [row for row, facts in enumerate(rows_of(index)) if asked.of(facts)]
    if not wanted:
        with pytest.raises(UserError, match=r"data\.filter=.* admit none of the"):
            filtered(index, asked.text)
        return
    plan = filtered(index, asked.text)
    for epoch in range(2):
        assert seen_in(plan, epoch) == dict.fromkeys(wanted, 1)
    assert plan.census.totals.sum() == len(wanted)
    assert {int(row) for micro in plan.costliest() for row in micro.rows} <= set(wanted)


def test_columns_that_are_read_from_the_file_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "snr_db / 2 > 5 and (speaker in ('ann', '陈') or phonemes >= 100)"
    wanted = seen_in(filtered(figured(900, 50, 1), text))
    monkeypatch.setattr("shards.columns.MAPPED_BYTES", 0)
    assert seen_in(filtered(figured(900, 50, 1), text)) == wanted
    assert 0 < len(wanted) < 900


def test_a_filter_keeps_the_promises_of_curriculum_repeat_and_length_limits() -> None:
    left, right = figured(300, 40, 1), figured(200, 40, 2)
    corpus = corpus_of((left, 1), (right, 2))
    plan = Plan(
        corpus,
        seed=0,
        batch=BATCH,
        max_seconds=30.0,
        selection=Selection(corpus, Filter.parse("snr_db > 10")),
    )
    taken = [
        np.flatnonzero((index.numbers("snr_db") > 10) & (index.seconds <= 30)).tolist()
        for index in (left, right)
    ]
    wanted = dict.fromkeys(taken[0], 1) | {300 + row: 2 for row in taken[1]}
    assert seen_in(plan) == wanted


def mask(text: str, **given: list[Any]) -> list[bool]:
    clips = len(next(iter(given.values())))
    figures = {name: values for name, values in given.items() if name not in ("seconds", "speaker")}
    index = index_of(
        given.get("seconds", [1.0] * clips),
        figures=figures,
        names={"speaker": given.get("speaker", ["a"] * clips)},
    )
    chosen = Selection(corpus_of((index, 1)), Filter.parse(text)).mask(0, clips)
    assert chosen is not None and chosen.dtype == np.bool_ and chosen.shape == (clips,)
    return chosen.tolist()


@pytest.mark.parametrize("text", ["x > 0", "x <= 0", "x == x", "x != 0", "x not in [0]", "x/0 < 1"])
def test_no_comparison_with_an_unknown_figure_is_true(text: str) -> None:
    assert mask(text, x=[float("nan")]) == [False]
    assert mask(f"not ({text})", x=[float("nan")]) == [True]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("seconds == 5.3", [True, False, False]),
        ("seconds <= 5.3", [True, False, False]),
        ("seconds in (5.3, 7)", [True, False, True]),
        ("seconds == 53/10", [True, False, False]),
        ("5 < seconds < 7", [True, True, False]),
        ("6 < seconds", [False, True, True]),
        ("-seconds < -6", [False, True, True]),
        ("2 * seconds - 1 > 10", [False, True, True]),
        ("seconds > 6 or\n  seconds < 5.5", [True, True, True]),
        ("not seconds > 6 and 1 < 2", [True, False, False]),
        ("seconds < 1e300", [True, True, True]),
        ("10 / seconds > 1.5", [True, True, False]),
        ("phonemes * 1000000000 > 0", [True, True, True]),
        ("speaker == 'a'", [True, True, False]),
        ("'a' != speaker", [False, False, True]),
        ('speaker not in ["a"]', [False, False, True]),
        ("speaker in []", [False, False, False]),
        ("speaker in ('b', 'nobody')", [False, False, True]),
        ("speaker != '#' and\n'a' == speaker", [True, True, False]),
    ],
)
def test_conditions_mean_what_they_say(text: str, wanted: list[bool]) -> None:
    assert mask(text, seconds=[5.3, 6.5, 7.0], speaker=["a", "a", "b"]) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not understood at character"),
        ("snr_db >", "is not understood at character"),
        ("snr_db > 3; import os", "is not understood at character"),
        ("snr_db = 3", "is not understood at character"),
        ("a\0b > 3", "is not understood"),
        ("'\ud800' == speaker", "is not understood"),
        ("speaker == '\\ud800'", "is no name that text can hold"),
        ("snr_db", "'snr_db' at character 1, which is no condition"),
        ("snr_db > 3 and seconds", "'seconds' at character 16, which is no condition"),
        ("speaker == 'é' and seconds", "'seconds' at character 20, which is no condition"),
        ("3", "'3' at character 1, which is no condition"),
        ("True", "which is no condition"),
        ("snr_db > True", "'True' at character 10, which is no number"),
        ("1 < 2", "names no column"),
        ("snr_db ** 2 > 3", "'snr_db ** 2' at character 1, which is no number"),
        ("snr_db % 2 > 3", "which is no number"),
        ("snr_db > 10**10**10", "which is no number"),
        ("snr_db > __import__('os').getpid()", "which is no number"),
        ("speaker.upper() == 'A'", "which is compared with no column"),
        ("(snr_db > 3) + 1 > 0", "which is no number"),
        ("(lambda: 1)", "which is no condition"),
        ("[x for x in speaker]", "which is no condition"),
        ("snr_db is 3", "'3' at character 11, which is compared by 'is'"),
        ("snr_db > 'loud'", "'snr_db' at character 1, which is a number compared with a name"),
        ("language == 3", "'3' at character 13, which is no name in quotation marks"),
        ("language == en", "'en' at character 13, which is no name in quotation marks"),
        ("speaker == language", "which is no name in quotation marks"),
        ("'a' == 'b'", "which is compared with no column"),
        ("speaker < 'm'", "'speaker' at character 1, which is a name and has no <"),
        ("speaker + 1 > 2", "'speaker' at character 1, which is a name"),
        ("speaker in 'abc'", "at character 12, which is no list"),
        ("speaker in ['a', 3]", "'3' at character 18, which is no name in quotation marks"),
        ("seconds in [1, snr_db]", "'snr_db' at character 16, which is no constant"),
        ("seconds in ['a']", "which is a name"),
        ("seconds > 1" + "0" * 400, "which is too large"),
        ("seconds > " + "-" * 3000 + "1", "is n"),
        ("seconds > " + "(" * 500 + "1" + ")" * 500, "is n"),
        ("seconds" + " + 1" * 300 + " > 3", "is nested more than"),
        ("seconds > 1" + " " * MAX_CHARACTERS + "or 1", "has more than 20000 characters"),
        ("seconds > $", "is not understood"),
        ("seconds > 1 # at least\nand seconds < 3", "has a comment, # at character 13"),
        ("# loud\nsnr_db > 3", "has a comment, # at character 1"),
        ("speaker == '#' # one", "has a comment, # at character 16"),
        ("snr_db > (1 # open", "has a comment, # at character 13"),
    ],
)
def test_what_is_not_understood_is_one_sentence_of_where_and_what_to_write(
    text: str, said: str
) -> None:
    with pytest.raises(UserError) as refused:
        Filter.parse(text)
    sentence = str(refused.value)
    assert sentence.startswith("data.filter=") and "\n" not in sentence and len(sentence) < 600
    assert said in sentence
    assert "write comparisons of columns" in sentence


WORDS = [
    *("seconds", "speaker", "x", "and", "or", "not", "in", "is", "<", "<=", "==", "!=", "+", "-"),
    *("*", "/", "**", "%", "//", "(", ")", "[", "]", ",", "1", "2.5", "1e999", "'a'", "b'a'", ":="),
    *(
        "if",
        "else",
        "lambda",
        "for",
        ".",
        "...",
        "f'{x}'",
        "None",
        "True",
        "\0",
        "é",
        "{",
        "}",
        ":",
    ),
]


@given(st.one_of(st.text(max_size=30), st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)))
@settings(max_examples=600, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_every_text_is_a_filter_or_refused(text: str) -> None:
    try:
        found = Filter.parse(text)
    except UserError:
        return
    index = index_of([1.0, 2.0], figures={"x": [1.0, np.nan]}, names={"speaker": ["a", "b"]})
    try:
        chosen = Selection(corpus_of((index, 1)), found).mask(0, 2)
    except UserError:
        return
    assert chosen is not None and chosen.shape == (2,) and chosen.dtype == np.bool_


def test_many_conditions_and_many_names_are_fine() -> None:
    many = " or ".join(["seconds < 0"] * 1200)
    assert mask(f"{many} or seconds > 1", seconds=[1.0, 2.0]) == [False, True]
    names = [f"s{n}" for n in range(2000)]
    assert mask(f"speaker in {names}", speaker=["s1999", "t"]) == [True, False]


def test_a_column_that_a_source_lacks_is_named_with_the_nearest_and_all() -> None:
    one = index_of([1.0], figures={"snr_db": [3.0]}, names={"speaker": ["a"]})
    other = index_of([1.0], figures={"snr": [3.0]})
    corpus = corpus_of((one, 1), (other, 1))
    with pytest.raises(UserError) as refused:
        Selection(corpus, Filter.parse("snr_db > 3"))
    assert str(refused.value) == (
        f"data.filter: {other.folder} has no column snr_db; did you mean snr? "
        "it has seconds, semantic, phonemes, snr"
    )
    with pytest.raises(UserError, match=r"no column speaker; it has seconds"):
        Selection(corpus, Filter.parse("speaker == 'a'"))
    with pytest.raises(UserError, match=r"no column key; it has .*, speaker$"):
        Selection(corpus_of((one, 1)), Filter.parse("key > 1"))


def split_index(shares: str) -> Index:
    names = {"t": "train", "v": "validation"}
    return index_of(
        [1.0] * len(shares), per_shard=2, names={"split": [names[share] for share in shares]}
    )


def test_a_run_takes_the_clips_of_its_split() -> None:
    index = split_index("ttvtv")
    assert set(seen_in(filtered(index, None))) == {0, 1, 3}
    assert set(seen_in(filtered(index, None, "validation"))) == {2, 4}
    assert set(seen_in(filtered(index, None, "all"))) == set(range(5))
    assert set(seen_in(filtered(index, "split == 'validation'", "all"))) == {2, 4}
    with pytest.raises(UserError, match=r"data\.split='train', data\.filter=.*admit none"):
        filtered(index, "split == 'validation'")


def test_a_source_without_a_split_is_all_train() -> None:
    whole, parted = index_of([1.0] * 3), split_index("tv")
    corpus = corpus_of((whole, 1), (parted, 1))
    plans = {
        split: Plan(corpus, seed=0, batch=BATCH, selection=Selection(corpus, None, split))
        for split in ("train", "validation", "all")
    }
    assert {split: set(seen_in(plan)) for split, plan in plans.items()} == {
        "train": {0, 1, 2, 3},
        "validation": {4},
        "all": {0, 1, 2, 3, 4},
    }
    with pytest.raises(UserError, match=r"data\.split=validation: .* pack it again with valid"):
        filtered(whole, None, "validation")


def test_only_a_selection_changes_the_fingerprint() -> None:
    index = figured(60, 20, 0)
    plain = Plan(corpus_of((index, 1)), seed=0, batch=BATCH).fingerprint
    assert filtered(index, None).fingerprint == plain
    assert not {"data.filter", "data.split", "clips taken"} & set(plain)
    [first, second] = changed_settings(plain, filtered(index, "snr_db > 3").fingerprint)
    assert first == "data.filter was None and is now snr_db > 3"
    assert second.startswith("clips taken was None and is now ")
    train = filtered(split_index("ttvtv"), None).fingerprint
    assert train["data.split"] == "train" and "data.filter" not in train
    assert changed_settings(train, filtered(split_index("tvttv"), None).fingerprint)


def test_figures_that_were_measured_anew_change_the_fingerprint() -> None:
    before, now = (
        filtered(index_of([1.0] * 4, 2, figures={"x": figures}), "x > 1").fingerprint
        for figures in ([2.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0])
    )
    assert [change.split()[0] for change in changed_settings(before, now)] == ["clips"]


def test_a_large_corpus_is_filtered_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    figures, names = {"x": np.arange(5000)}, {"speaker": ["a"] * 5000}
    index = index_of(lognormal(5000), per_shard=70, figures=figures, names=names)
    monkeypatch.setattr("shards.census.CHUNK_CLIPS", 300)
    plan = filtered(index, "x >= 1234 and speaker == 'a'")
    assert seen_in(plan) == dict.fromkeys(range(1234, 5000), 1)


CONFIG = Path("configs/gpt_sovits_s1.yaml").resolve()


def test_a_plan_can_be_looked_at_under_a_filter(token_shards: Path) -> None:
    index = Index.open(token_shards)
    middle = round(float(np.median(index.seconds)), 2)
    settings = [f"data.path={token_shards}", "batch.seconds=48", "batch.micro_seconds=12"]
    text = f"data.filter=seconds >= {middle} and speaker not in ['nobody', \"x\"]"
    result = CliRunner().invoke(
        app, ["plan", str(CONFIG), *settings, text, "--steps", "30", "--json"]
    )
    assert result.exit_code == 0, result.output
    seen = {key for line in result.output.splitlines() for key in json.loads(line)["keys"]}
    wanted = np.flatnonzero(index.seconds >= np.float32(middle))
    assert seen == {index.key(int(row)) for row in wanted}
    with pytest.raises(UserError, match=r"data\.filter: .* no column second; did you mean seconds"):
        CliRunner().invoke(
            app, ["plan", str(CONFIG), *settings, "data.filter=second<3"], catch_exceptions=False
        )


def test_the_configuration_takes_filter_and_split(token_shards: Path) -> None:
    index = Index.open(token_shards)
    limit = float(np.median(index.seconds))
    data = DataConfig(path=str(token_shards), filter=f"seconds < {limit}")
    plan = open_plan(data, BATCH, seed=0)
    assert set(seen_in(plan)) == set(np.flatnonzero(index.seconds < np.float32(limit)).tolist())
    with pytest.raises(UserError, match=r"data\.split=validation: .*validation=0\.01"):
        open_plan(DataConfig(path=str(token_shards), split="validation"), BATCH, seed=0)
