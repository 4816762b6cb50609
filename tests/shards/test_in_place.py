from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
import webdataset
from test_pack import clips, packed, wave

from shards.dataset import DataConfig, open_plan
from shards.errors import UserError
from shards.fields import Field
from shards.index import Index
from shards.pack.config import AudioConfig, PackConfig
from shards.pack.in_place import index_tars
from shards.pack.progress import Quiet
from shards.plan import BatchConfig
from shards.stream import stream

CONFIG = PackConfig()


def mp3(seconds: float, seed: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave(seconds, seed, 24_000), 24_000, format="MP3")
    return file.getvalue()


def emilia(path: Path, first: int, clips: int) -> Path:
    """A tar as Emilia's are: KEY.mp3 and KEY.json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path), mtime=0) as tar:
        for number in range(first, first + clips):
            key, seconds = f"EN_B00000_S{number:05d}_W000000", 1 + number / 4
            facts = {
                "id": key, "wav": f"EN/{key}.mp3", "text": f"Number {number}.",
                "duration": seconds, "speaker": f"EN_S{number % 3}", "language": "en",
                "dnsmos": 3 + number / 100, "phone_count": 9,
            }  # fmt: skip
            facts_file = json.dumps(facts).encode()
            tar.write({"__key__": key, "mp3": mp3(seconds, number), "json": facts_file})
    return path


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Twelve clips in two tars, one of them in a folder below."""
    emilia(tmp_path / "tars" / "a.tar", 0, 6)
    emilia(tmp_path / "tars" / "more" / "b.tar", 6, 6)
    return tmp_path / "tars"


def index_here(folder: Path) -> Index:
    index_tars(folder, CONFIG, workers=0, watch=Quiet())
    return Index.open(folder)


def test_tars_that_are_indexed_where_they_lie_can_be_trained_on(foreign: Path) -> None:
    before = {path: path.read_bytes() for path in foreign.rglob("*.tar")}
    index = index_here(foreign)
    assert len(index) == 12 and index.figures == ("dnsmos", "phone_count")
    assert set(index.table.column("speaker").to_pylist()) == {"EN_S0", "EN_S1", "EN_S2"}
    assert {index.shard(row) for row in range(12)} == {"a.tar", "more/b.tar"}
    data = DataConfig(path=str(foreign), workers=0, filter="dnsmos > 3.025 and seconds < 3")
    plan = open_plan(data, BatchConfig(seconds=8, micro_seconds=4), 0)
    field = Field("audio", pad=0, dtype="float32", sample_rate=24_000)
    batches = stream(plan, (field,), range(plan.step_at(1)), rank=0, world_size=1, config=data)
    keys = [key for batch in batches for key in batch.keys]
    assert sorted(keys) == [f"EN_B00000_S{n:05d}_W000000" for n in range(3, 8)]
    assert before == {path: path.read_bytes() for path in foreign.rglob("*.tar")}


def test_only_tars_that_changed_are_read_again(
    foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = index_here(foreign).digest
    assert index_here(foreign).digest == first
    receipts = {p: p.stat().st_mtime_ns for p in (foreign / ".pack").glob("block-*.json")}
    emilia(foreign / "more" / "b.tar", 6, 3)
    assert len(index_here(foreign)) == 9
    again = {p: p.stat().st_mtime_ns for p in (foreign / ".pack").glob("block-*.json")}
    assert len(again) == 2
    assert len(again.items() & receipts.items()) == 1


def test_what_cannot_be_used_of_a_tar_is_in_the_rejects(foreign: Path) -> None:
    with webdataset.TarWriter(str(foreign / "c.tar"), mtime=0) as tar:
        tar.write({"__key__": "odd", "json": b"[1]", "mp3": mp3(1, 50)})
        tar.write({"__key__": "silent", "txt": b"no audio"})
    content = (foreign / "more" / "b.tar").read_bytes()
    (foreign / "torn.tar").write_bytes(content[: len(content) // 2])
    index = index_here(foreign)
    rejects = pyarrow.parquet.read_table(foreign / "rejects.parquet").to_pylist()
    reasons = {reject["reason"] for reject in rejects}
    assert {"JSON that is no object", "neither audio nor a length"} <= reasons
    assert "a torn tar; its end is lost" in reasons
    assert len(index) == 12  # the torn tar's clips are those of another, byte for byte


def test_a_tar_that_cannot_be_read_keeps_no_other_from_it(foreign: Path) -> None:
    whole = (foreign / "a.tar").read_bytes()
    (foreign / "x.tar.gz").write_bytes(gzip.compress(whole))
    (foreign / "x.tar").write_bytes(gzip.compress(whole))
    (foreign / "y.tar").symlink_to(foreign / "nowhere")
    (foreign / os.fsdecode(b"\xff.tar")).write_bytes(whole)
    (foreign / "folder.tar").mkdir()
    emilia(foreign / "folder.tar" / "c.TAR", 12, 2)
    index = index_here(foreign)
    assert len(index) == 14
    assert "folder.tar/c.TAR" in {index.shard(row) for row in range(14)}
    rejects = pyarrow.parquet.read_table(foreign / "rejects.parquet").to_pylist()
    assert sorted((reject["name"], reject["reason"], reject["file"]) for reject in rejects) == [
        (r"\xff.tar", "a name that is not UTF-8", rf"{foreign}/\xff.tar"),
        ("x.tar", "a compressed tar; unpack it to a plain .tar", f"{foreign}/x.tar"),
        ("x.tar.gz", "a compressed tar; unpack it to a plain .tar", f"{foreign}/x.tar.gz"),
        ("y.tar", "a link to a tar that is not there", f"{foreign}/y.tar"),
    ]
    (foreign / "nowhere").write_bytes(emilia(foreign / ".c" / "c.tar", 20, 1).read_bytes())
    assert len(index_here(foreign)) == 15


def test_facts_may_be_called_like_what_packing_keeps_for_itself(foreign: Path) -> None:
    with webdataset.TarWriter(str(foreign / "c.tar"), mtime=0) as tar:
        facts = json.dumps({"words": 5, "sound": 6}).encode()
        tar.write({"__key__": "c", "mp3": mp3(1, 50), "json": facts})
    index = index_here(foreign)
    assert len(index) == 13 and {"words", "sound"} <= set(index.figures)


def test_the_same_audio_twice_stays_once_in_any_format(foreign: Path) -> None:
    file = io.BytesIO()
    soundfile.write(file, wave(1, 9, 8000), 8000, format="AIFF")
    with webdataset.TarWriter(str(foreign / "c.tar"), mtime=0) as tar:
        for key in "pq":
            tar.write({"__key__": key, "16k.aiff": file.getvalue(), "lab": key.encode()})
    assert len(index_here(foreign)) == 13


def test_shards_that_were_packed_below_are_not_indexed(foreign: Path) -> None:
    packed(foreign, foreign / "out", CONFIG, kind="webdataset")
    assert len(index_here(foreign)) == 12


def test_a_folder_without_tars_or_packed_here_is_refused(foreign: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match=r"holds no \.tar files"):
        index_here(tmp_path / "nothing")
    packed(foreign, tmp_path / "packed", CONFIG, kind="webdataset")
    with pytest.raises(UserError, match="was packed by 'segue shards pack'"):
        index_here(tmp_path / "packed")


def test_repacking_sorts_clips_and_keeps_their_files(foreign: Path, tmp_path: Path) -> None:
    report = packed(foreign, tmp_path / "out", CONFIG, kind="webdataset")
    assert report.clips == 12
    original = {
        clip["__key__"]: clip["mp3"]
        for tar in foreign.rglob("*.tar")
        for clip in webdataset.WebDataset(str(tar), shardshuffle=False)
    }
    for name, clip in clips(tmp_path / "out").items():
        assert clip["mp3"] == original[name.rpartition("/")[2]]
        facts = json.loads(clip["json"])
        assert facts["text"] == f"Number {int(name.split('_S')[1][:5])}."
        assert facts["dnsmos"] >= 3 and facts["snr_db"] > 0
    index = Index.open(tmp_path / "out")
    assert {"dnsmos", "snr_db"} <= set(index.figures)


def test_repacking_keeps_all_that_is_known_of_a_clip(tmp_path: Path) -> None:
    facts = {
        "id": 9007199254740993,
        "words": [{"word": "Number", "start": 0.1, "end": 0.4}],
        "meta": {"license": None},
        "gain": 0.123456789,
        "text": "Number one.",
        "speaker": "ann",
    }
    sample = {"__key__": "a", "mp3": mp3(1, 50), "txt": b" number one\n"}
    once, out, twice = tmp_path / "tars", tmp_path / "tars" / "out", tmp_path / "twice"
    once.mkdir()
    with webdataset.TarWriter(str(once / "a.tar"), mtime=0) as tar:
        tar.write({**sample, "json": json.dumps(facts).encode()})
    for source, target in ((once, out), (once, out), (out, twice)):
        packed(source, target, CONFIG, kind="webdataset")
        (clip,) = clips(target).values()
        assert (clip["txt"], clip["mp3"]) == (sample["txt"], sample["mp3"])
        again = json.loads(clip["json"])
        assert {name: again[name] for name in facts} == facts
        assert type(again["id"]) is int


def test_our_own_shards_are_repacked_under_the_same_names(tmp_path: Path) -> None:
    for number in range(6):
        place = tmp_path / "c" / f"s{number % 2}" / f"{number}.v1.wav"
        place.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(place, wave(1 + number / 5, number), 8000)
    packed(tmp_path / "c", tmp_path / "once", CONFIG)
    packed(tmp_path / "once", tmp_path / "twice", CONFIG)
    once, twice = clips(tmp_path / "once"), clips(tmp_path / "twice")
    assert once.keys() == twice.keys() == {f"s{n % 2}/{n}.v1" for n in range(6)}
    for name, clip in once.items():
        assert twice[name]["flac"] == clip["flac"]
        assert twice[name]["__key__"] == clip["__key__"]
    np.testing.assert_array_equal(
        np.sort(Index.open(tmp_path / "once").seconds),
        np.sort(Index.open(tmp_path / "twice").seconds),
    )


def repack_one(tmp_path: Path, **members: bytes) -> list[dict[str, str]]:
    """The rejects of repacking a good clip and one with ``members`` (``__`` is a dot)."""
    tmp_path.mkdir(exist_ok=True)
    with webdataset.TarWriter(str(tmp_path / "x.tar"), mtime=0) as tar:
        tar.write({"__key__": "good", "mp3": mp3(1, 1)})
        own = {name.replace("__", "."): data for name, data in members.items()}
        tar.write({"__key__": "odd", **own})
    packed(tmp_path / "x.tar", tmp_path / "out", CONFIG)
    return pyarrow.parquet.read_table(tmp_path / "out" / "rejects.parquet").to_pylist()


def npy(values: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(values))
    return file.getvalue()


def flac_of(seconds: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave(seconds, 3, 24_000), 24_000, format="FLAC")
    return file.getvalue()


@pytest.mark.parametrize("name", ["seconds", "key", "speaker", "split", "members"])
def test_a_member_with_the_name_of_a_column_is_a_reject(name: str, tmp_path: Path) -> None:
    (lost,) = repack_one(tmp_path, mp3=mp3(1, 2), **{f"{name}__npy": npy([1, 2])})
    assert lost["name"].endswith("odd")
    assert np.isfinite(Index.open(tmp_path / "out").seconds).all()


def test_figures_and_hashes_of_any_name_do_not_collide(tmp_path: Path) -> None:
    figures = json.dumps({"words": 5, "sound": 1, "#sound": 2, "x": 3, "y" * 250: 4}).encode()
    assert not repack_one(tmp_path, mp3=mp3(1, 2), json=figures, x__npy=npy([1, 2, 3]))
    index = Index.open(tmp_path / "out")
    assert sorted(index.lengths("x")) == [0, 3]
    assert {"words", "sound"} <= set(index.figures) and "x" not in index.figures


def test_two_audio_files_are_kept_or_refused_and_never_overwrite_each_other(
    tmp_path: Path,
) -> None:
    members = {"mp3": mp3(1, 2), "flac": flac_of(2)}
    assert not repack_one(tmp_path, **members)
    clip = next(c for name, c in clips(tmp_path / "out").items() if name.endswith("odd"))
    assert {name: clip[name] for name in members} == members
    config = PackConfig(audio=AudioConfig(store="flac"))
    packed(tmp_path / "x.tar", tmp_path / "flac", config)
    stored = clips(tmp_path / "flac")
    lost = pyarrow.parquet.read_table(tmp_path / "flac" / "rejects.parquet").to_pylist()
    odd = [clip for name, clip in stored.items() if name.endswith("odd")]
    assert lost or ("mp3" in odd[0] and "flac" in odd[0])


def test_facts_come_back_as_they_were(tmp_path: Path) -> None:
    facts = {
        "id": 9007199254740993,
        "text": "spoken words",
        "alignment": [{"word": "spoken", "start": 0.1}],
        "nested": {"a": None},
        "dnsmos": 3,
    }
    assert not repack_one(tmp_path, mp3=mp3(1, 2), json=json.dumps(facts).encode(), txt=b"words")
    clip = next(c for name, c in clips(tmp_path / "out").items() if name.endswith("odd"))
    said = json.loads(clip["json"])
    assert {name: said[name] for name in facts} == facts
    assert clip["txt"] == b"words"
