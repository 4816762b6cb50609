from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import webdataset
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import UserError
from shards.index import Index
from shards.index_writer import write_index
from shards.tar_index import ScannedShard, scan_shard
from shards.tars import TarClip, TarFlaw, open_tar, read_member, tar_clips

Files = list[tuple[str, bytes]]


def tar_bytes(files: Files, kind: int = tarfile.GNU_FORMAT) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=kind) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return written.getvalue()


def found(data: bytes) -> tuple[list[TarClip], list[TarFlaw]]:
    listed = list(tar_clips(io.BytesIO(data)))
    return (
        [one for one in listed if isinstance(one, TarClip)],
        [one for one in listed if isinstance(one, TarFlaw)],
    )


def contents(data: bytes, clips: list[TarClip]) -> list[tuple[str, dict[str, bytes]]]:
    file = io.BytesIO(data)
    return [(c.key, {m.extension: read_member(file, m) for m in c.members}) for c in clips]


def sound(seconds: float = 0.5, rate: int = 8000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(round(rate * seconds)) / 5), rate, format="WAV")
    return file.getvalue()


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


def scan(root: Path, *files: tuple[str, bytes | Mapping[str, Any]]) -> ScannedShard:
    written = [(n, d if isinstance(d, bytes) else json.dumps(d).encode()) for n, d in files]
    (root / "a.tar").write_bytes(tar_bytes(written))
    return scan_shard(root, "a.tar")


# Reading tars


KEYS = st.text(
    st.characters(codec="utf-8", exclude_characters="./\0\n\r", exclude_categories=("Cc",)),
    min_size=1,
    max_size=60,
)
PATHS = st.lists(KEYS | st.just("__meta__"), min_size=1, max_size=3).map("/".join)
MEMBERS = st.dictionaries(
    st.sampled_from(["wav", "json", "16K.npy"]), st.binary(max_size=9), min_size=1
)


@given(
    st.dictionaries(PATHS, MEMBERS, max_size=5),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_clips_are_those_that_webdataset_finds(
    tmp_path_factory: pytest.TempPathFactory, clips: dict[str, dict[str, bytes]], kind: int
) -> None:
    files = [
        (f"{path}.{extension}", data)
        for path, members in clips.items()
        for extension, data in members.items()
    ]
    data = tar_bytes(files, kind)
    path = tmp_path_factory.getbasetemp() / "same.tar"
    path.write_bytes(data)
    theirs = [
        (sample["__key__"], {n: v for n, v in sample.items() if not n.startswith("__")})
        for sample in webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False)
    ]
    ours, flaws = found(data)
    assert not flaws
    assert contents(data, ours) == theirs


def test_folders_links_and_files_without_key_or_extension_are_passed_over() -> None:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, kind in (
            ("dir", tarfile.DIRTYPE),
            ("dir/a.wav", tarfile.REGTYPE),
            ("dir/a.lnk", tarfile.SYMTYPE),
            ("dir/a.hard", tarfile.LNKTYPE),
            ("dir/._a.wav", tarfile.REGTYPE),
            ("dir/README", tarfile.REGTYPE),
            ("__index__/x.wav", tarfile.REGTYPE),
            ("dir/a.json", tarfile.REGTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "dir/a.wav"
            tar.addfile(info)
    (clip,), flaws = found(written.getvalue())
    assert not flaws
    assert clip.key == "dir/a"
    assert [member.extension for member in clip.members] == ["wav", "json"]


def test_audio_json_and_text_are_told_from_the_rest() -> None:
    names = ["a.16k.wav", "a.words.json", "a.json", "a.FLAC", "a.txt", "a.x.npy", "a.cls"]
    (clip,), _ = found(tar_bytes([(name, b"") for name in names]))
    assert clip.audio is not None and clip.audio.extension == "flac"
    assert clip.json is not None and clip.txt is not None
    assert [m.extension for m in clip.carried] == ["16k.wav", "words.json", "txt", "x.npy", "cls"]
    (clip,), _ = found(tar_bytes([(name, b"") for name in names if name != "a.FLAC"]))
    assert clip.audio is not None and clip.audio.extension == "16k.wav"


def test_a_key_met_again_later_and_a_file_met_twice_are_reported() -> None:
    names = ["a.wav", "b.wav", "a.json", "c.wav", "c.WAV", "d.wav"]
    clips, flaws = found(tar_bytes([(name, b"") for name in names]))
    assert [clip.key for clip in clips] == ["a", "b", "d"]
    assert [(flaw.key, flaw.reason, flaw.figure) for flaw in flaws] == [
        ("a", "files of one key that lie apart in the tar", "json"),
        ("c", "two files of one key and extension", "wav, wav"),
    ]


def test_a_name_that_is_not_utf8_is_reported_legibly() -> None:
    data = tar_bytes([("a.wav", b""), ("XXXX.wav", b"")])
    clips, (flaw,) = found(_with_checksums(data.replace(b"XXXX", "é".encode("latin-1") * 4)))
    assert [clip.key for clip in clips] == ["a"]
    assert (flaw.key, flaw.reason) == (r"\udce9" * 4, "a name that is not UTF-8")


def _with_checksums(data: bytes) -> bytes:
    """The tar with the sums of its headers made right again; payloads must be empty."""
    tar = bytearray(data)
    for at in range(0, len(tar), 512):
        block = tar[at : at + 512]
        if any(block):
            total = 256 + sum(block[:148]) + sum(block[156:])
            tar[at + 148 : at + 156] = b"%06o\0 " % total
    return bytes(tar)


WHOLE = tar_bytes(
    [
        (f"{'long' * 40 if n == 2 else 'dir'}/k{n}.{extension}", extension.encode() * 200)
        for n in range(5)
        for extension in ("wav", "json")
    ]
)


@given(st.integers(0, len(WHOLE) - 1))
def test_a_tar_cut_off_anywhere_gives_the_clips_before_and_says_so(end: int) -> None:
    clips, _ = found(WHOLE)
    last = clips[-1].members[-1]
    before, flaws = found(WHOLE[:end])
    assert contents(WHOLE, before) == contents(WHOLE, clips[: len(before)])
    if end < last.offset + last.size:
        assert [flaw.reason for flaw in flaws] == ["a torn tar; its end is lost"]
        assert len(before) < len(clips)


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=8))
def test_damaged_bytes_never_raise_and_never_point_outside(damage: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for place, value in damage:
        data[place] = value
    for clip in found(bytes(data))[0]:
        assert all(0 <= m.offset <= m.offset + m.size <= len(data) for m in clip.members)


@pytest.mark.parametrize("size", [b"\xff" * 12, b"\x80" + b"\xff" * 11, b"77777777777\0"])
@pytest.mark.parametrize("kind", [b"0", b"x", b"g", b"L", b"S", b"5"])
def test_a_header_with_an_impossible_size_is_damage(
    tmp_path: Path, size: bytes, kind: bytes
) -> None:
    data = bytearray(tar_bytes([("a.wav", b""), ("b.wav", b""), ("c.wav", b"")]))
    data[512 + 124 : 512 + 136], data[512 + 156 : 512 + 157] = size, kind
    path = tmp_path / "a.tar"
    path.write_bytes(_with_checksums(bytes(data)))
    with open_tar(path) as file:
        listed = list(tar_clips(file))
    assert [one.key for one in listed if isinstance(one, TarClip)] in ([], ["a"], ["a", "c"])
    assert isinstance(listed[-1], TarFlaw) or kind != b"0"


def test_what_lies_behind_the_end_of_a_tar_is_reported() -> None:
    one, two = tar_bytes([("a.wav", b"")]), tar_bytes([("b.wav", b"")])
    assert found(one)[1] == []
    assert [flaw.reason for flaw in found(one + two)[1]] == ["a torn tar; its end is lost"]


def test_an_empty_tar_holds_nothing() -> None:
    assert found(tar_bytes([])) == ([], [])
    assert [flaw.key for flaw in found(b"")[1]] == [""]


# Indexing in place


def test_rows_point_at_the_bytes_of_every_member(tmp_path: Path) -> None:
    units, pitch = np.array([3, 299, 7], dtype=np.int16), np.zeros((2, 5), dtype=np.float32)
    scanned = scan(
        tmp_path,
        ("dir/a.wav", sound()),
        ("dir/a.json", {"duration": 0.5, "speaker": "ann", "language": "en", "dnsmos": 3.1}),
        ("dir/a.units.npy", npy(units)),
        ("dir/a.pitch.npy", npy(pitch)),
        ("b.wav", sound(0.25)),
        ("b.txt", b"hi"),
    )
    assert scanned.rejects == []
    a, b = scanned.rows
    assert (a.key, a.shard, a.seconds, a.speaker, a.language) == (
        "dir/a",
        "a.tar",
        0.5,
        "ann",
        "en",
    )
    assert (a.lengths, a.largest) == ({"units": 3, "pitch": 5}, {"units": 299})
    assert a.figures == {"dnsmos": 3.1}
    assert (b.key, b.seconds, b.source) == ("b", 0.25, tmp_path.name)
    tar = (tmp_path / "a.tar").read_bytes()
    for row in scanned.rows:
        for member in row.members:
            data = tar[member.offset : member.offset + member.size]
            assert xxhash.xxh3_64_intdigest(data) == member.checksum
        assert row.offset == row.members[0].offset
        assert row.offset + row.size == row.members[-1].offset + row.members[-1].size
    assert vars(scanned.shard) == {
        "name": "a.tar",
        "rows": 2,
        "bytes": len(tar),
        "checksum": xxhash.xxh3_64_intdigest(tar),
    }


def test_an_index_of_foreign_tars_opens_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "en").mkdir()
    scanned = []
    for name in ("en/a.tar", "en/b.tar"):
        files = [(f"{name[3]}{n}.wav", sound(0.1 * (n + 1))) for n in range(3)]
        (tmp_path / name).write_bytes(tar_bytes(files))
        scanned.append(scan_shard(tmp_path, name))
    rows = [row for shard in scanned for row in shard.rows]
    write_index(tmp_path, rows, [shard.shard for shard in scanned], {})
    index = Index.open(tmp_path)
    assert [index.key(row) for row in range(6)] == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert index.shard(5) == "en/b.tar"
    np.testing.assert_allclose(index.seconds, [0.1, 0.2, 0.3] * 2, atol=1e-6)


def test_a_source_that_clips_name_themselves_is_kept(tmp_path: Path) -> None:
    scanned = scan(tmp_path, ("a.wav", sound()), ("a.json", {"source": "radio", "seconds": 1}))
    assert (scanned.rows[0].source, scanned.rows[0].seconds) == ("radio", 1.0)


NO_COLUMN = "an array with a name that no column can have"
DEEP = b'{"x": ' + b"[" * 100 + b"]" * 100 + b"}"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([("a.wav", b"")], "the audio is empty"),
        ([("a.wav", b"noise")], "audio cannot be read"),
        ([("a.wav", sound(0))], "the audio is empty"),
        ([("a.json", b"{}")], "neither audio nor a length"),
        ([("a.wav", sound()), ("a.json", b"{")], "not JSON"),
        ([("a.wav", sound()), ("a.json", b'["a"]')], "JSON that is no object"),
        ([("a.wav", sound()), ("a.json", b'{"duration": NaN}')], "duration is not a number"),
        ([("a.wav", sound()), ("a.x.npy", b"")], "an array that cannot be read"),
        ([("a.wav", sound()), ("a.x.npy", npy([1])[:-1])], "an array that cannot be read"),
        ([("a.wav", sound()), ("a.x.npy", npy(1))], "an array without axes"),
        ([("a.wav", sound()), ("a.seconds.npy", npy([1]))], NO_COLUMN),
        ([("a.wav", sound()), ("a._x.npy", npy([1]))], NO_COLUMN),
        ([("a.wav", sound()), ("a.#sound.npy", npy([1]))], NO_COLUMN),
        ([("a.wav", sound()), (f"a.{'é' * 33}.npy", npy([1]))], NO_COLUMN),
        ([("a.wav", sound()), ("a.json", DEEP)], "JSON that is nested too deep"),
    ],
)
def test_clips_that_no_run_could_read_are_rejects(
    tmp_path: Path, files: Files, reason: str
) -> None:
    scanned = scan(tmp_path, *files, ("good.wav", sound()))
    assert [row.key for row in scanned.rows] == ["good"]
    (reject,) = scanned.rejects
    assert (reject.name, reject.reason, reject.file) == ("a", reason, str(tmp_path / "a.tar"))
    assert scanned.shard.rows == 1


def test_arrays_of_python_objects_are_not_unpickled(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    scanned = scan(tmp_path, ("a.wav", sound()), ("a.x.npy", file.getvalue()))
    assert [reject.reason for reject in scanned.rejects] == ["an array that cannot be read"]


def test_a_figure_gives_way_to_the_length_of_an_array_of_its_name(tmp_path: Path) -> None:
    facts = {"units": 9, "snr": 2, "huge": 1e300, "nan": float("nan")}
    scanned = scan(tmp_path, ("a.wav", sound()), ("a.json", facts), ("a.units.npy", npy([1, 2])))
    assert (scanned.rows[0].lengths, scanned.rows[0].figures) == ({"units": 2}, {"snr": 2.0})


def test_a_torn_tar_is_indexed_up_to_the_damage(tmp_path: Path) -> None:
    data = tar_bytes([(f"{n}.wav", sound()) for n in range(5)])
    torn = data[: len(data) // 2]
    (tmp_path / "a.tar").write_bytes(torn)
    scanned = scan_shard(tmp_path, "a.tar")
    assert 0 < len(scanned.rows) < 5
    assert [(reject.name, reject.reason) for reject in scanned.rejects] == [
        ("a.tar", "a torn tar; its end is lost")
    ]
    assert scanned.shard.bytes == len(torn)
    assert scanned.shard.checksum == xxhash.xxh3_64_intdigest(torn)


def test_a_clip_may_have_files_that_webdataset_reads_and_does_not_write(tmp_path: Path) -> None:
    scanned = scan(tmp_path, ("a.wav", sound()), ("a._note", b"x"), ("a.16k.npy", npy([1])))
    assert [member.name for member in scanned.rows[0].members] == ["wav", "_note", "16k.npy"]


def test_a_source_that_is_no_name_is_not_taken_for_one(tmp_path: Path) -> None:
    scanned = scan(tmp_path, ("a.wav", sound()), ("a.json", {"source": {"url": "x"}}))
    assert scanned.rows[0].source == tmp_path.name


def test_a_folder_whose_name_is_not_utf8_is_told_legibly(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"\xff")
    odd.mkdir()
    scanned = scan(odd, ("a.wav", sound()), ("b.wav", b""))
    assert scanned.rows[0].source == r"\xff"
    assert scanned.rejects[0].file == rf"{tmp_path}/\xff/a.tar"


@pytest.mark.parametrize("data", [b"", tar_bytes([])])
def test_a_tar_without_clips_is_a_shard_without_rows(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    scanned = scan_shard(tmp_path, "a.tar")
    assert (scanned.rows, scanned.shard.rows, scanned.shard.bytes) == ([], 0, len(data))


def test_a_compressed_tar_is_one_sentence(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:bz2"):
        pass
    with pytest.raises(UserError, match="unpack it"):
        scan_shard(tmp_path, "a.tar")
