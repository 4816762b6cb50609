from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
import webdataset
import xxhash
from experiment_corpus import write_experiment

from shards.demo import speak_corpus
from shards.errors import UserError
from shards.index import Index
from shards.pack import PackOptions, pack
from shards.sources.experiment_folder import BERT, SEMANTIC, TEXT, symbol_ids


def quiet(_text: str) -> None:
    return None


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(speech.list of 24 clips, their shards)."""
    root = tmp_path_factory.mktemp("spoken")
    listed = speak_corpus(root, clips=24, workers=2)
    pack(listed, root / "shards", PackOptions(units=50, shard_hours=0.02, workers=2), quiet)
    return listed, root / "shards"


def test_shards_are_plain_webdataset(spoken: tuple[Path, Path]) -> None:
    shards = sorted(str(path) for path in spoken[1].glob("*.tar"))
    clips = list(webdataset.WebDataset(shards, shardshuffle=False).decode())
    assert len(clips) == 24
    for clip in clips:
        assert clip["json"]["text"] and clip["json"]["language"] in {"EN", "ZH"}
        assert abs(len(clip["semantic.npy"]) - 25 * clip["json"]["seconds"]) <= 2
        assert 0 < clip["phonemes.npy"].max() < 512


def test_the_index_points_at_the_bytes_of_every_member(spoken: tuple[Path, Path]) -> None:
    index = Index.open(spoken[1])
    members = index.members
    for row in range(len(index)):
        own = range(members.starts.view[row], members.starts.view[row + 1])
        place = next(n for n in own if members.names[members.name.view[n]] == "json")
        tar = (spoken[1] / index.shard(row)).read_bytes()
        data = tar[
            members.offset.view[place] : members.offset.view[place] + members.size.view[place]
        ]
        assert xxhash.xxh3_64_intdigest(data) == members.checksum.view[place]
        facts = json.loads(data)
        assert facts["name"].replace(".", "%2E") == index.key(row)
        assert facts["seconds"] == pytest.approx(index.seconds[row], abs=1e-3)


def test_each_shard_holds_clips_of_like_length(spoken: tuple[Path, Path]) -> None:
    index = Index.open(spoken[1])
    shards = np.array([index.shard(row) for row in range(len(index))])
    spans = sorted(
        (index.seconds[shards == s].min(), index.seconds[shards == s].max()) for s in set(shards)
    )
    assert all(before[1] <= after[1] for before, after in pairwise(spans))


def test_a_pack_begun_again_keeps_finished_shards_and_gives_the_same_bytes(
    spoken: tuple[Path, Path], tmp_path: Path
) -> None:
    listed, whole = spoken
    options = PackOptions(units=50, shard_hours=0.02, workers=1)
    pack(listed, tmp_path, options, quiet)
    shards = sorted(path.name for path in tmp_path.glob("*.tar"))
    (tmp_path / shards[0]).unlink()
    (tmp_path / ".pack" / f"{shards[0]}.json").unlink()
    (tmp_path / "index.arrow").unlink()
    kept = (tmp_path / shards[1]).stat().st_mtime_ns
    pack(listed, tmp_path, options, quiet)
    assert (tmp_path / shards[1]).stat().st_mtime_ns == kept
    for name in [*shards, "index.arrow"]:
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_a_shard_that_was_lost_or_cut_off_is_made_again(
    spoken: tuple[Path, Path], tmp_path: Path
) -> None:
    listed, whole = spoken
    options = PackOptions(units=50, shard_hours=0.02, workers=1)
    pack(listed, tmp_path, options, quiet)
    lost, cut = sorted(tmp_path.glob("*.tar"))[:2]
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:-1000])
    pack(listed, tmp_path, options, quiet)
    for shard in (lost, cut):
        assert shard.read_bytes() == (whole / shard.name).read_bytes()


def test_a_corpus_without_one_good_clip_says_why_and_leaves_the_folder_usable(
    spoken: tuple[Path, Path], tmp_path: Path
) -> None:
    listed = tmp_path / "bad.list"
    listed.write_text("")
    with pytest.raises(UserError, match="lists no clips"):
        pack(listed, tmp_path / "out", PackOptions(workers=1), quiet)
    listed.write_text("nope.wav|a|EN|hello\n")
    with pytest.raises(UserError, match=r"not one clip could be packed \(1 x audio cannot be read"):
        pack(listed, tmp_path / "out", PackOptions(workers=1), quiet)
    good = spoken[0].read_text(encoding="utf-8").splitlines()[0]
    listed.write_text(f"{spoken[0].parent}/{good}\n", encoding="utf-8-sig")
    options = PackOptions(features=("phonemes.espeak",), workers=1)
    assert pack(listed, tmp_path / "out", options, quiet).clips == 1


def test_other_settings_in_the_same_folder_are_refused(spoken: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match="units was 50 and is now 60"):
        pack(spoken[0], spoken[1], PackOptions(units=60, shard_hours=0.02), quiet)


def test_lines_that_cannot_be_packed_are_rejected_with_their_reason(
    spoken: tuple[Path, Path], tmp_path: Path
) -> None:
    good = spoken[0].read_text(encoding="utf-8").splitlines()[:2]
    root = spoken[0].parent
    absolute = [f"{root}/{line}" for line in good]
    (tmp_path / "broken.wav").write_bytes(b"not audio")
    lines = [*absolute, "only|three|fields", "gone.wav|a|EN|hello", "broken.wav|a|EN|hello"]
    lines += [absolute[0], absolute[1].replace("|EN|", "|XX|").replace("|ZH|", "|XX|")]
    (tmp_path / "mixed.list").write_text("\n".join(lines), encoding="utf-8")
    options = PackOptions(features=("phonemes.espeak",), workers=1)
    report = pack(tmp_path, tmp_path / "out", options, quiet)
    assert report.clips == 2
    rejects = pyarrow.parquet.read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    reasons = [reject["reason"] for reject in rejects]
    assert reasons.count("audio cannot be read") == 2
    assert reasons.count("listed twice") == 2
    assert reasons.count("not path|speaker|language|text") == 1


def test_an_unknown_language_is_a_reject_and_not_a_crash(
    spoken: tuple[Path, Path], tmp_path: Path
) -> None:
    first, second = spoken[0].read_text(encoding="utf-8").splitlines()[:2]
    root = spoken[0].parent
    name, speaker, _, text = second.split("|")
    lines = [f"{root}/{first}", f"{root}/{name}|{speaker}|KLINGON|{text}"]
    (tmp_path / "two.list").write_text("\n".join(lines), encoding="utf-8")
    options = PackOptions(features=("phonemes.espeak",), workers=1)
    report = pack(tmp_path / "two.list", tmp_path / "out", options, quiet)
    assert report.clips == 1
    ((reason, count),) = report.rejects.items()
    assert "KLINGON" in reason and count == 1


def test_an_experiment_folder_is_packed_as_it_is(tmp_path: Path) -> None:
    source = write_experiment(tmp_path / "experiment", clips=12)
    symbols = symbol_ids("v2")
    line = (source / TEXT).read_text(encoding="utf-8").splitlines()[0]
    name, phonemes, _, text = line.split("\t")
    count = len(phonemes.split(" "))
    (source / BERT).mkdir()
    bert = torch.randn(1024, count, requires_grad=True)
    torch.save(bert.half(), source / BERT / f"{name}.pt")
    pack(source, tmp_path / "out", PackOptions(workers=1), quiet)

    shards = sorted(str(path) for path in (tmp_path / "out").glob("*.tar"))
    clips = {
        clip["json"]["name"]: clip
        for clip in webdataset.WebDataset(shards, shardshuffle=False).decode()
    }
    tokens = (source / SEMANTIC).read_text(encoding="utf-8").splitlines()[1].split("\t")[1]
    clip = clips[name]
    assert clip["phonemes.npy"].tolist() == [symbols[s] for s in phonemes.split(" ")]
    assert clip["semantic.npy"].tolist() == [int(token) for token in tokens.split()]
    assert clip["json"]["text"] == text
    np.testing.assert_array_equal(clip["bert.npy"], bert.detach().half().numpy())
    assert sum("bert.npy" in clip for clip in clips.values()) == 1
    assert Index.open(tmp_path / "out").lengths("bert").max() == count


@pytest.mark.parametrize("content", [b"", b"rubbish", "dict", "nan", "shape"])
def test_broken_bert_features_reject_their_clip_alone(content: bytes | str, tmp_path: Path) -> None:
    source = write_experiment(tmp_path / "experiment", clips=3)
    name, phonemes, _, _ = (source / TEXT).read_text(encoding="utf-8").split("\n")[0].split("\t")
    (source / BERT).mkdir()
    path = source / BERT / f"{name}.pt"
    count = len(phonemes.split(" "))
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        saved = {
            "dict": {"a": 1},
            "nan": torch.full((1024, count), float("nan")),
            "shape": torch.zeros(1024, count + 1),
        }
        torch.save(saved[content], path)
    report = pack(source, tmp_path / "out", PackOptions(workers=1), quiet)
    assert report.clips == 2
    ((reason, _),) = report.rejects.items()
    assert reason.startswith("BERT features")


def test_broken_rows_of_an_experiment_are_rejected(tmp_path: Path) -> None:
    source = write_experiment(tmp_path / "experiment", clips=3)
    with (source / TEXT).open("a", encoding="utf-8") as file:
        file.write("odd.wav\tnot_a_phoneme\tNone\ttext\nhuge.wav\t!\tNone\ttext\n")
    with (source / SEMANTIC).open("a", encoding="utf-8") as file:
        file.write("odd.wav\t1 2 3\nhuge.wav\t1 99999\nlost.wav\t1 2\nclip_0000.wav\t4 4\n")
    report = pack(source, tmp_path / "out", PackOptions(workers=1), quiet)
    assert report.clips == 3
    assert report.rejects == {
        "phoneme not in table v2": 1,
        f"not in {TEXT}": 1,
        "semantic token over 32767": 1,
        f"twice in {SEMANTIC}": 1,
    }


def test_a_source_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no corpus known here"):
        pack(tmp_path, tmp_path / "out", PackOptions(), quiet)
    with pytest.raises(UserError, match="does not exist"):
        pack(tmp_path / "gone", tmp_path / "out", PackOptions(), quiet)


def test_an_unknown_feature_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    source = write_experiment(tmp_path / "experiment", clips=3)
    with pytest.raises(UserError, match=r"--features mel: unknown; there are phonemes\.espeak"):
        pack(source, tmp_path / "out", PackOptions(features=("mel",)), quiet)
