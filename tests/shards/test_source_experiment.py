from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xxhash
from experiment_corpus import write_experiment

from shards.errors import UserError
from shards.json_facts import UnusableError
from shards.pack.config import GptSovitsConfig, PackConfig
from shards.sources import open_source
from shards.sources.experiment_folder import (
    AUDIO,
    BERT,
    CNHUBERT,
    SEMANTIC,
    TEXT,
    ExperimentFolder,
    symbol_ids,
)
from shards.sources.named_lines import NamedLines
from shards.sources.source import Recording, Reject

CONFIG = PackConfig()


def experiment(folder: Path, texts: str | bytes, semantic: str | bytes) -> ExperimentFolder:
    folder.mkdir(exist_ok=True)
    for name, content in ((TEXT, texts), (SEMANTIC, semantic)):
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(data)
    return ExperimentFolder(folder, CONFIG)


def found(source: ExperimentFolder) -> list[Recording]:
    return [one for one in source.recordings() if isinstance(one, Recording)]


def rejected(source: ExperimentFolder) -> dict[str, tuple[str, str]]:
    everything = source.recordings()
    return {one.name: (one.reason, one.figure) for one in everything if isinstance(one, Reject)}


def one_clip(folder: Path, phonemes: str = "! a", tokens: str = "1 2 3") -> Recording:
    (clip,) = found(experiment(folder, f"a.wav\t{phonemes}\tNone\ttext\n", f"a.wav\t{tokens}\n"))
    return clip


def test_phonemes_tokens_and_text_are_taken_as_they_are(tmp_path: Path) -> None:
    source = ExperimentFolder(write_experiment(tmp_path / "experiment", clips=5), CONFIG)
    texts = (source.path / TEXT).read_text(encoding="utf-8").splitlines()
    rows = (source.path / SEMANTIC).read_text(encoding="utf-8").splitlines()[1:]
    clips = found(source)
    assert len(clips) == 5
    for clip, line, row in zip(clips, texts, rows, strict=True):
        name, phonemes, _, text = line.split("\t")
        tokens = [int(token) for token in row.split("\t")[1].split()]
        assert (clip.name, clip.text, clip.seconds) == (name, text, len(tokens) / 25)
        members = source.members(clip)
        assert list(members) == ["phonemes.npy", "semantic.npy"]
        assert np.array_equal(members["phonemes.npy"], [SYMBOLS[s] for s in phonemes.split(" ")])
        assert np.array_equal(members["semantic.npy"], tokens)
        assert {getattr(member, "dtype", None) for member in members.values()} == {np.dtype("i2")}


SYMBOLS = symbol_ids("v2")


def test_members_are_read_by_a_source_that_has_listed_nothing(tmp_path: Path) -> None:
    source = ExperimentFolder(write_experiment(tmp_path / "experiment", clips=3), CONFIG)
    clip = found(source)[2]
    handle = json.loads(json.dumps(dict(clip.handle)))
    other = pickle.loads(pickle.dumps(source))
    again = other.members(Recording(clip.name, handle=handle))
    for name, member in source.members(clip).items():
        assert np.array_equal(again[name], member)


def test_both_tables_begin_alike_and_have_upstreams_sizes() -> None:
    v1, v2 = symbol_ids("v1"), symbol_ids("v2")
    assert (len(v1), len(v2)) == (322, 732)
    assert v1["!"] == v2["!"] == 0
    assert v1["_"] == v2["_"] == 95


def test_the_phoneme_table_is_the_one_that_the_configuration_names(tmp_path: Path) -> None:
    newer = next(symbol for symbol in symbol_ids("v2") if symbol not in symbol_ids("v1"))
    clip = one_clip(tmp_path / "x", phonemes=newer)
    source = ExperimentFolder(tmp_path / "x", PackConfig(gpt_sovits=GptSovitsConfig(symbols="v1")))
    assert clip.name == "a.wav"
    assert rejected(source) == {"a.wav": ("phoneme not in table v1", newer)}


def test_rows_are_matched_by_name_in_whatever_order(tmp_path: Path) -> None:
    names = [f"{stem}.wav" for stem in ("b", "a", "你好", "سلام", "🎙 %2E", "x.y", "u\u2028v")]
    texts = "".join(f"{name}\t!\tNone\ttext of {name}\n" for name in reversed(names))
    source = experiment(tmp_path / "x", texts, "".join(f"{name}\t7\n" for name in names))
    assert [one.name for one in found(source)] == names
    assert all(one.text == f"text of {one.name}" for one in found(source))


def test_marks_line_ends_and_headers_are_no_part_of_a_row(tmp_path: Path) -> None:
    source = experiment(
        tmp_path / "x",
        "\ufeffa.wav\t!\tNone\tone\u2028two\0\r\nb.wav\t!\tNone\tb\r\n",
        "\ufeffitem_name\tsemantic_audio\r\na.wav\t1 2\r\n\r\nitem_name\tsemantic_audio\nb.wav\t3",
    )
    assert [(one.name, one.text) for one in found(source)] == [
        ("a.wav", "one\u2028two\0"),
        ("b.wav", "b"),
    ]
    assert rejected(source) == {}


def test_the_last_line_of_a_name_counts_and_lines_of_other_shapes_do_not(tmp_path: Path) -> None:
    texts = "a\t!\tNone\told\na\t!\tNone\tnew\na\t!\tNone\na\t!\tNone\tx\ty\nnothing\n\n"
    source = experiment(tmp_path / "x", texts, "a\t1\nnothing\t1\n")
    assert [one.text for one in found(source)] == ["new"]
    assert rejected(source) == {"nothing": (f"not in {TEXT}", "")}


def test_broken_rows_are_rejected_with_what_decided(tmp_path: Path) -> None:
    rows = {
        "lost": ("1 2", f"not in {TEXT}", ""),
        "none": ("", "semantic tokens are not numbers", ""),
        "words": ("1 two", "semantic tokens are not numbers", "1 two"),
        "minus": ("1 -2", "semantic tokens are not numbers", "1 -2"),
        "arabic": ("١ ٢", "semantic tokens are not numbers", "١ ٢"),
        "huge": ("1 99999", "a semantic token beyond the codebook", "99999"),
        "endless": ("9" * 5000, "a semantic token beyond the codebook", "9" * 40),
        "odd": ("1 2", "phoneme not in table v2", "not_a_phoneme"),
        "mute": ("1 2", "phoneme not in table v2", ""),
    }
    phonemes = {"odd": "! not_a_phoneme", "mute": ""}
    texts = "".join(
        f"{name}\t{phonemes.get(name, '!')}\tNone\ttext\n" for name in rows if name != "lost"
    )
    semantic = "".join(f"{name}\t{tokens}\n" for name, (tokens, *_) in rows.items())
    source = experiment(tmp_path / "x", texts, semantic)
    assert rejected(source) == {
        name: (reason, figure) for name, (_, reason, figure) in rows.items()
    }
    assert found(source) == []


def test_names_that_cannot_be_are_rejected(tmp_path: Path) -> None:
    semantic = b"caf\xe9\t1\n\t1\nn\0ul\t1\ntext\t1\nno tokens\n"
    texts = b"caf\xe9\t!\tNone\tt\n\t!\tNone\tt\nn\0ul\t!\tNone\tt\ntext\t!\tNone\t\xff\n"
    source = experiment(tmp_path / "x", texts, semantic)
    assert {name: reason for name, (reason, _) in rejected(source).items()} == {
        "caf\\xe9": "name or text is not UTF-8",
        f"{SEMANTIC}, line 2": "not a name",
        f"{SEMANTIC}, line 3": "not a name",
        "text": "name or text is not UTF-8",
        "no tokens": f"not in {TEXT}",
    }


def test_a_name_longer_than_any_file_has_no_audio_and_no_bert(tmp_path: Path) -> None:
    name = "x" * 400
    source = experiment(tmp_path / "x", f"{name}\t!\tNone\tt\n", f"{name}\t1\n")
    (clip,) = found(source)
    assert clip.audio is None
    assert "bert.npy" not in source.members(clip)


def test_empty_files_list_nothing(tmp_path: Path) -> None:
    assert list(experiment(tmp_path / "x", "", "").recordings()) == []
    assert rejected(experiment(tmp_path / "x", "", "a\t1\n")) == {"a": (f"not in {TEXT}", "")}


def test_a_name_that_comes_twice_is_listed_twice_and_left_to_the_listing(tmp_path: Path) -> None:
    source = experiment(tmp_path / "x", "a\t!\tNone\tt\n", "a\t1\na\t2\n")
    assert [one.handle["semantic"] for one in found(source)] == ["1", "2"]


def test_the_audio_is_the_32_khz_file_where_there_is_one(tmp_path: Path) -> None:
    assert one_clip(tmp_path / "x").audio is None
    (tmp_path / "x" / AUDIO).mkdir()
    (tmp_path / "x" / AUDIO / "a.wav").touch()
    clip = one_clip(tmp_path / "x")
    assert clip.audio and clip.audio.path == tmp_path / "x" / AUDIO / "a.wav"


@pytest.mark.parametrize(
    ("written", "facts"),
    [
        ("[1, 2, 1]", {"word2ph": [1, 2, 1]}),
        ("[2]", {"word2ph": [2]}),
        ("None", {}),
        ("[]", {}),
        ("", {}),
        ("[1, 'a']", {}),
        ("[1.5]", {}),
        ("[true]", {}),
        ("[" * 100_000, {}),
        ("[" + "9" * 5000 + "]", {}),
        ("__import__('os').abort()", {}),
    ],
)
def test_phonemes_per_character_are_kept(tmp_path: Path, written: str, facts: Any) -> None:
    source = experiment(tmp_path / "x", f"a\t! a\t{written}\t文\n", "a\t1\n")
    assert [one.facts for one in found(source)] == [facts]


# Features


def test_bert_features_are_packed_where_there_are_any(tmp_path: Path) -> None:
    source = ExperimentFolder(write_experiment(tmp_path / "experiment", clips=2), CONFIG)
    first, second = found(source)
    count = len(first.handle["phonemes"].split(" "))
    (source.path / BERT).mkdir()
    bert = torch.randn(1024, count, requires_grad=True)
    torch.save(bert, source.path / BERT / f"{first.name}.pt")
    packed = source.members(first)["bert.npy"]
    np.testing.assert_array_equal(packed, bert.detach().half().numpy())
    assert "bert.npy" not in source.members(second)


BROKEN: dict[str, tuple[Any, str]] = {
    "empty": (b"", "cannot be read"),
    "rubbish": (b"rubbish", "cannot be read"),
    "dict": ({"a": 1}, "cannot be read"),
    "nan": (torch.full((1024, 2), float("nan")), "not finite"),
    "too large for half": (torch.full((1024, 2), 1e6), "not finite"),
    "length": (torch.zeros(1024, 3), "not of the clip's shape"),
    "dimensions": (torch.zeros(1, 1024, 2), "not of the clip's shape"),
}


@pytest.mark.parametrize("content", BROKEN)
def test_broken_bert_features_are_refused(content: str, tmp_path: Path) -> None:
    clip = one_clip(tmp_path / "x", phonemes="! a")
    saved, reason = BROKEN[content]
    (tmp_path / "x" / BERT).mkdir()
    path = tmp_path / "x" / BERT / "a.wav.pt"
    if isinstance(saved, bytes):
        path.write_bytes(saved)
    else:
        torch.save(saved, path)
    with pytest.raises(UnusableError, match=f"BERT features .*{reason}") as refused:
        ExperimentFolder(tmp_path / "x", CONFIG).members(clip)
    assert refused.value.file == str(path)


def test_cnhubert_features_are_packed_where_they_are_asked_for(tmp_path: Path) -> None:
    clip = one_clip(tmp_path / "x")
    (tmp_path / "x" / CNHUBERT).mkdir()
    features = torch.randn(1, 768, 7)
    torch.save(features, tmp_path / "x" / CNHUBERT / "a.wav.pt")
    assert "cnhubert.npy" not in ExperimentFolder(tmp_path / "x", CONFIG).members(clip)
    asking = ExperimentFolder(tmp_path / "x", PackConfig(gpt_sovits=GptSovitsConfig(cnhubert=True)))
    np.testing.assert_array_equal(asking.members(clip)["cnhubert.npy"], features[0].half().numpy())
    torch.save(features[0], tmp_path / "x" / CNHUBERT / "a.wav.pt")
    with pytest.raises(ValueError, match="cnhubert features are not of the clip's shape"):
        asking.members(clip)


# Upstream's filters


@pytest.mark.parametrize(
    ("tokens", "phonemes", "reason", "figure"),
    [
        (50, 10, "", ""),
        (51, 10, "upstream filter: over gpt_sovits.max_seconds", "2.04"),
        (50, 20, "", ""),
        (50, 21, "upstream filter: too many phonemes for gpt_sovits.max_seconds", "21"),
        (25, 3, "", ""),
        (50, 5, "upstream filter: under gpt_sovits.min_phonemes_per_second", "2.50"),
        (20, 20, "", ""),
        (10, 11, "upstream filter: over gpt_sovits.max_phonemes_per_second", "27.50"),
    ],
)
def test_upstreams_filters_are_kept_as_options(
    tmp_path: Path, tokens: int, phonemes: int, reason: str, figure: str
) -> None:
    one_clip(tmp_path / "x", " ".join(["!"] * phonemes), " ".join(["1"] * tokens))
    options = GptSovitsConfig(upstream_filters=True, max_seconds=2.0)
    source = ExperimentFolder(tmp_path / "x", PackConfig(gpt_sovits=options))
    assert rejected(source) == ({"a.wav": (reason, figure)} if reason else {})
    assert rejected(ExperimentFolder(tmp_path / "x", CONFIG)) == {}


# Lines by name

COLLIDING = (b"a4834.wav", b"9|gHG:*N")


def test_names_of_one_hash_are_told_apart(tmp_path: Path) -> None:
    first, second = COLLIDING
    assert xxhash.xxh3_64_intdigest(first) == xxhash.xxh3_64_intdigest(second)
    path = tmp_path / "lines.tsv"
    path.write_bytes(first + b"\tone\n" + second + b"\ttwo\r\nother\tthree\n" + first + b"\tfour")
    with NamedLines(path, fields=2) as lines:
        assert lines.find(first) == first + b"\tfour"
        assert lines.find(second) == second + b"\ttwo"
        assert lines.find(b"gone") is None
    path.write_bytes(first + b"\tone\n")
    with NamedLines(path, fields=2) as lines:
        assert lines.find(second) is None


# Recognition


def test_an_experiment_is_recognised_by_both_of_its_files(tmp_path: Path) -> None:
    source = write_experiment(tmp_path / "experiment", clips=1)
    (source / AUDIO).mkdir()
    (source / AUDIO / "a.wav").touch()
    assert open_source(source, None, CONFIG).kind == "gpt_sovits"
    (source / SEMANTIC).unlink()
    assert not ExperimentFolder.recognises(source)
    with pytest.raises(UserError, match=f"does not hold {TEXT} and {SEMANTIC}"):
        ExperimentFolder(source, CONFIG)


def test_odd_paths_are_no_experiments(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    for odd in ("a.wav", "gone", "nul\0", "x" * 300, "\udcff"):
        assert not ExperimentFolder.recognises(tmp_path / odd)


def test_texts_without_tokens_are_rejects_too(tmp_path: Path) -> None:
    source = write_experiment(tmp_path / "x", clips=3)
    with (source / TEXT).open("a", encoding="utf-8") as file:
        file.write("alone.wav\t!\tNone\tno tokens\n")
    found = list(ExperimentFolder(source, CONFIG).recordings())
    assert len(found) == 4
    assert found[3] == Reject("alone.wav", f"not in {SEMANTIC}", "", str(source / TEXT))
