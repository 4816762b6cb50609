from __future__ import annotations

import gzip
import json
import os
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import webdataset

from shards.audio import read_bytes
from shards.errors import UserError
from shards.pack.config import PackConfig
from shards.sources.lhotse import LhotseCuts
from shards.sources.nemo import NemoManifest
from shards.sources.source import Recording, Reject, Source
from shards.sources.webdataset import WebDatasetTars

KINDS = (NemoManifest, LhotseCuts, WebDatasetTars)
DEEP = "JSON that is nested too deep"
SURROGATE = '{"audio_filepath": "s.wav", "text": "\\ud83d"}'


def manifest(path: Path, *lines: Any) -> Path:
    """A manifest; strings are written as they are, anything else as JSON."""
    written = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    data = ("\n".join(written) + "\n").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def listed(source: Source) -> tuple[list[Recording], list[Reject]]:
    found = list(source.recordings())
    return (
        [one for one in found if isinstance(one, Recording)],
        [one for one in found if isinstance(one, Reject)],
    )


def nemo(path: Path, *lines: Any) -> tuple[list[Recording], list[Reject]]:
    return listed(NemoManifest(manifest(path, *lines), PackConfig()))


def lhotse(path: Path, *lines: Any) -> tuple[list[Recording], list[Reject]]:
    return listed(LhotseCuts(manifest(path, *lines), PackConfig()))


# NeMo


@pytest.mark.parametrize("name", ["m.json", "m.jsonl", "m.json.gz", "M.JSONL.gz"])
def test_a_nemo_line_is_a_stretch_of_the_file_it_names(tmp_path: Path, name: str) -> None:
    line = {
        "audio_filepath": "wavs/a.wav",
        "offset": 1.25,
        "duration": 3.5,
        "text": "grüß\tGott\u0000",
        "speaker": 1089,
        "lang": "de",
        "snr": 21.5,
        "domain": "radio",
    }
    (clip,), rejects = nemo(tmp_path / name, line)
    assert not rejects
    assert clip.name == "wavs/a_00001250"
    assert clip.audio is not None and clip.audio.path == tmp_path / "wavs" / "a.wav"
    assert (clip.start, clip.seconds) == (1.25, 3.5)
    assert (clip.text, clip.speaker, clip.language) == ("grüß\tGott\0", "1089", "de")
    assert clip.figures == {"snr": 21.5}
    assert clip.facts == {"lang": "de", "snr": 21.5, "domain": "radio"}


def test_a_nemo_line_needs_no_more_than_a_path(tmp_path: Path) -> None:
    line = {"audio_filepath": "a.wav", "duration": None, "offset": None, "text": None}
    (clip,), _ = nemo(tmp_path / "m.json", line)
    assert (clip.name, clip.start, clip.seconds, clip.text) == ("a", 0.0, None, "")


def test_nemo_names_tell_formats_folders_and_offsets_apart(tmp_path: Path) -> None:
    paths = ["a.wav", "a.flac", "x/a.wav", "y/a.wav", "名前.wav", str(tmp_path / "inside.wav")]
    lines: list[Mapping[str, Any]] = [{"audio_filepath": path} for path in paths]
    lines += [{"audio_filepath": "a.wav", "offset": offset} for offset in (0, 0.5, 4000)]
    clips, _ = nemo(tmp_path / "m.json", *lines)
    assert [clip.name for clip in clips] == [
        "a",
        "a.flac",
        "x/a",
        "y/a",
        "名前",
        "inside",
        "a_00000000",
        "a_00000500",
        "a_04000000",
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1, 2]", "JSON that is no object"),
        ('{"audio_filepath": "a.wav", "x": ' + "[" * 200 + "]" * 200 + "}", DEEP),
        (SURROGATE, "JSON with half a surrogate pair"),
        ({"text": "no audio"}, "audio_filepath is not a path"),
        ({"audio_filepath": ["a.wav", "b.wav"]}, "audio_filepath is not a path"),
        ({"audio_filepath": "a\0.wav"}, "audio_filepath is not a path"),
        ({"audio_filepath": "a.wav", "duration": "3"}, "duration is not a number"),
        ({"audio_filepath": "a.wav", "duration": True}, "duration is not a number"),
        ({"audio_filepath": "a.wav", "duration": float("nan")}, "duration is not a number"),
        ({"audio_filepath": "a.wav", "duration": 10**400}, "duration is not a number"),
        ({"audio_filepath": "a.wav", "duration": -1}, "duration is not above zero"),
        ({"audio_filepath": "a.wav", "offset": -0.5}, "offset is below zero"),
        ({"audio_filepath": "a.wav", "text": ["a"]}, "text is not a string"),
        ({"audio_filepath": "a.wav", "speaker": 1.5}, "speaker is not a string"),
    ],
)
def test_a_broken_nemo_line_is_a_reject_that_says_where(
    tmp_path: Path, line: Any, reason: str
) -> None:
    good = {"audio_filepath": "good.wav"}
    clips, (reject,) = nemo(tmp_path / "m.json", good, "", line, good)
    assert len(clips) == 2
    assert reject.reason == reason
    assert "line 3" in f"{reject.name} {reject.figure}"
    assert reject.file == str(tmp_path / "m.json")


def test_only_finite_numbers_with_usable_names_become_figures(tmp_path: Path) -> None:
    fields = {
        "audio_filepath": "a.wav",
        "snr": 20,
        "größe": 1.5,
        "word count": 7,
        "class": 3,
        "size": 99,
        "clean": True,
        "nan": float("nan"),
        "huge": 10**400,
        "beyond_float32": 1e39,
        "_private": 5,
        "x" * 65: 1,
        "words": [{"word": "a", "start": 0.1}],
        "nothing": None,
        "id": 2**53 + 1,
    }
    (clip,), _ = nemo(tmp_path / "m.json", fields)
    assert clip.figures == {"snr": 20.0, "größe": 1.5, "id": 2.0**53}
    written = {name: value for name, value in fields.items() if name != "audio_filepath"}
    assert json.dumps(dict(clip.facts)) == json.dumps(written)  # integers are integers still


def test_no_clip_has_more_figures_than_an_index_can_have_columns(tmp_path: Path) -> None:
    fields = {f"f{number}": number for number in range(500)}
    (clip,), _ = nemo(tmp_path / "m.json", {"audio_filepath": "a.wav", **fields})
    assert clip.figures == {f"f{number}": number for number in range(64)}
    assert clip.facts == fields


def test_a_damaged_or_foreign_manifest_is_one_sentence(tmp_path: Path) -> None:
    torn = manifest(tmp_path / "torn.json.gz", *[{"audio_filepath": f"{n}.wav"} for n in range(99)])
    torn.write_bytes(torn.read_bytes()[:-20])
    with pytest.raises(UserError, match="damaged gzip"):
        listed(NemoManifest(torn, PackConfig()))
    latin = tmp_path / "latin.json"
    latin.write_bytes('{"audio_filepath": "ü.wav"}'.encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        listed(NemoManifest(latin, PackConfig()))
    for kind in (NemoManifest, LhotseCuts):
        with pytest.raises(UserError, match=r"name the .*manifest"):
            kind(tmp_path, PackConfig())


# Lhotse


def cut(name: str = "cut-1", **fields: Any) -> dict[str, Any]:
    """A cut as Lhotse 1.x writes it; None leaves a field out."""
    recording = {
        "id": "rec-1",
        "sources": [{"type": "file", "channels": [0], "source": "audio/rec-1.flac"}],
        "sampling_rate": 16000,
        "num_samples": 160000,
        "duration": 10.0,
        "channel_ids": [0],
    }
    whole = {
        "id": name,
        "start": 2.0,
        "duration": 5.0,
        "channel": 0,
        "supervisions": [],
        "recording": recording,
        "type": "MonoCut",
    }
    return {key: value for key, value in (whole | fields).items() if value is not None}


def supervision(name: str, start: float, duration: float, **fields: Any) -> dict[str, Any]:
    fixed = {"id": name, "recording_id": "rec-1", "start": start, "duration": duration}
    return {**fixed, "channel": 0, **fields}


def recording(**fields: Any) -> dict[str, Any]:
    return {**cut()["recording"], **fields}


@pytest.mark.parametrize("kind", ["MonoCut", "Cut", None])
def test_a_cut_with_one_supervision_is_a_recording_of_the_whole_cut(
    tmp_path: Path, kind: str | None
) -> None:
    said = supervision("s-1", 0.5, 1, text="hello", speaker="ann", language="en", gender="F")
    said |= {"alignment": {"word": [["hello", 0, 1.5, 1]]}, "custom": {"id": 7}}
    line = cut(type=kind, supervisions=[said], custom={"snr": 12.5, "domain": "news"})
    (clip,), rejects = lhotse(tmp_path / "cuts.jsonl.gz", line)
    assert not rejects
    assert (clip.name, clip.start, clip.seconds) == ("cut-1", 2.0, 5.0)
    assert (clip.text, clip.speaker, clip.language) == ("hello", "ann", "en")
    assert clip.figures == {"snr": 12.5, "id": 7}
    assert clip.facts == {
        "recording": "rec-1",
        "snr": 12.5,
        "domain": "news",
        "gender": "F",
        "alignment": {"word": [["hello", 0, 1.5, 1]]},
        "id": 7,
    }
    assert clip.audio is not None and clip.audio.path == tmp_path / "audio" / "rec-1.flac"


def test_a_cut_without_supervisions_has_no_text(tmp_path: Path) -> None:
    (clip,), _ = lhotse(tmp_path / "cuts.jsonl", cut(supervisions=None))
    assert (clip.name, clip.text, clip.speaker) == ("cut-1", "", "")


def test_a_cut_with_several_supervisions_is_as_many_recordings(tmp_path: Path) -> None:
    said = [
        supervision("s-1", 0.1, 1.5, text="one", speaker="a", custom={"score": 1}),
        supervision("s-2", 3, 1, text="two", speaker="b"),
        supervision("s-3", -2.0000000001, 1, text="from the very beginning"),
        supervision("s-4", -3, 1),
        supervision("s-5", 1, 0),
        "not a supervision",
    ]
    line = cut(supervisions=said, custom={"score": 9, "snr": 3})
    clips, rejects = lhotse(tmp_path / "cuts.jsonl", line)
    assert [(clip.name, clip.start, clip.seconds) for clip in clips] == [
        ("s-1", 2.1, 1.5),
        ("s-2", 5.0, 1.0),
        ("s-3", 0.0, 1.0),
    ]
    assert [clip.text for clip in clips] == ["one", "two", "from the very beginning"]
    assert [clip.figures for clip in clips[:2]] == [{"score": 1, "snr": 3}, {"score": 9, "snr": 3}]
    assert [reject.reason for reject in rejects] == [
        "a start before the recording's",
        "duration is not above zero",
        "supervision is not an object",
    ]


def test_lhotse_paths_count_from_where_one_works_and_else_from_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    (work / "audio").mkdir(parents=True)
    monkeypatch.chdir(work)
    path = tmp_path / "manifests" / "cuts.jsonl"
    (there,), _ = lhotse(path, cut())
    (work / "audio" / "rec-1.flac").touch()
    (here,), _ = lhotse(path, cut())
    assert there.audio is not None and there.audio.path == path.parent / "audio" / "rec-1.flac"
    assert here.audio is not None and here.audio.path == work / "audio" / "rec-1.flac"


def test_the_file_is_taken_that_has_the_cuts_channels(tmp_path: Path) -> None:
    files = [
        {"type": "file", "channels": [0], "source": "left.wav"},
        {"type": "file", "channels": [1], "source": "right.wav"},
        {"type": "file", "channels": [2, 3], "source": "both.wav"},
    ]
    channels: list[Any] = [1, [2, 3]]
    lines = [cut(channel=channel, recording=recording(sources=files)) for channel in channels]
    lines[1]["type"] = "MultiCut"
    clips, _ = lhotse(tmp_path / "cuts.jsonl", *lines)
    assert [clip.audio.path.name for clip in clips if clip.audio] == ["right.wav", "both.wav"]


STEREO = [{"type": "file", "channels": [0, 1], "source": "stereo.wav"}]
URL = [{"type": "url", "channels": [0], "source": "https://example.org/a.wav"}]
SPEED = [{"name": "Speed", "kwargs": {"factor": 1.1}}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (cut(type="MixedCut"), "a cut of another kind than MonoCut and MultiCut"),
        (cut(type="PaddingCut"), "a cut of another kind than MonoCut and MultiCut"),
        (cut(type=["MonoCut"]), "a cut of another kind than MonoCut and MultiCut"),
        (cut(recording=None), "a cut without a recording"),
        (cut(recording="rec-1"), "recording is not an object"),
        (cut(recording=recording(sources=[])), "a recording without sources"),
        (cut(recording=recording(sources=URL)), "audio that is not in a file"),
        (
            cut(recording=recording(sources=STEREO)),
            "a cut of some of a file's channels, or of several files",
        ),
        (cut(recording=recording(transforms=SPEED)), "a recording that Lhotse would transform"),
        (cut(id=None), "no id"),
        (cut(duration=None), "no duration"),
        (cut(start="2"), "start is not a number"),
        (cut(start=-1), "a start before the recording's"),
        (cut(supervisions={"id": "s"}), "supervisions is not a list"),
        (cut(supervisions=[5]), "supervision is not an object"),
        (cut(custom="x"), "custom is not an object"),
        ("nonsense", "not JSON"),
    ],
)
def test_a_cut_that_cannot_be_used_is_a_reject(tmp_path: Path, line: Any, reason: str) -> None:
    clips, (reject,) = lhotse(tmp_path / "cuts.jsonl", cut("good"), line)
    assert [clip.name for clip in clips] == ["good"]
    assert (reject.reason, reject.file) == (reason, str(tmp_path / "cuts.jsonl"))
    assert reject.name in {"cut-1", "line 2"}


def test_a_resampled_recording_is_read_as_it_is(tmp_path: Path) -> None:
    transforms = [{"name": "Resample", "kwargs": {"sampling_rate": 8000}}]
    clips, _ = lhotse(tmp_path / "cuts.jsonl", cut(recording=recording(transforms=transforms)))
    assert len(clips) == 1


# WebDataset tars


def sound(seconds: float = 0.5) -> bytes:
    file = BytesIO()
    samples = np.sin(np.arange(round(8000 * seconds)) / 5)
    soundfile.write(file, samples, 8000, format="FLAC")
    return file.getvalue()


def tar(path: Path, *clips: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path)) as writer:
        for clip in clips:
            writer.write(dict(clip))
    return path


def loose_tar(path: Path, files: Mapping[str, bytes]) -> None:
    """A tar with files that WebDataset would not write."""
    with tarfile.open(path, "w") as file:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, BytesIO(data))


def tars(path: Path) -> tuple[list[Recording], list[Reject]]:
    return listed(WebDatasetTars(path, PackConfig()))


def test_clips_of_emilia_keep_what_is_known_of_them(tmp_path: Path) -> None:
    facts = {
        "id": "EN_B00000_S00000_W000000",
        "wav": "EN_B00000/EN_B00000_S00000/mp3/EN_B00000_S00000_W000000.mp3",
        "text": " So,\tit was.",
        "duration": 0.5,
        "speaker": "EN_B00000_S00000",
        "language": "en",
        "dnsmos": 3.3,
        "phone_count": 21,
        "words": [{"word": "So,", "start": 0.1}],
        "size": 9007199254740993,
    }
    data = sound()
    path = tar(tmp_path / "EN-B000000.tar", {"__key__": facts["id"], "json": facts, "mp3": data})
    (clip,), rejects = tars(path)
    assert not rejects
    assert clip.name == facts["id"]
    assert (clip.seconds, clip.speaker, clip.language) == (0.5, facts["speaker"], "en")
    assert clip.text == facts["text"]
    assert clip.figures == {"dnsmos": 3.3, "phone_count": 21.0}
    written = {"text", "speaker", "language"}
    assert clip.facts == {name: value for name, value in facts.items() if name not in written}
    assert clip.audio is not None and read_bytes(clip.audio) == data


def test_other_members_are_carried_as_arrays_and_bytes(tmp_path: Path) -> None:
    tokens = np.arange(7, dtype=np.int16)
    clip = {"__key__": "a", "flac": sound(), "tokens.npy": tokens, "lab": b"sil a", "txt": "hi\n"}
    source = WebDatasetTars(tar(tmp_path / "a.tar", clip), PackConfig())
    (found,), _ = listed(source)
    assert (found.text, found.seconds) == ("hi", None)
    json.dumps(found.handle)
    members = source.members(found)
    assert set(members) == {"tokens.npy", "lab", "txt"}
    assert members["txt"] == b"hi\n"
    np.testing.assert_array_equal(members["tokens.npy"], tokens)
    assert members["lab"] == b"sil a"


def test_the_text_of_the_json_goes_before_that_of_the_txt_and_both_stay(tmp_path: Path) -> None:
    clip = {"__key__": "a", "flac": sound(), "json": {"text": "Written."}, "txt": "said"}
    blank = {**clip, "__key__": "b", "json": {"text": " "}}
    source = WebDatasetTars(tar(tmp_path / "a.tar", clip, blank), PackConfig())
    clips, _ = listed(source)
    assert [clip.text for clip in clips] == ["Written.", "said"]
    assert [source.members(clip) for clip in clips] == [{"txt": b"said"}] * 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("_x.npy", "a file with an extension that begins with _"),
        ("_url", "a file with an extension that begins with _"),
        ("members.npy", "an array with a name that no column can have"),
    ],
)
def test_a_clip_with_a_file_that_no_shard_can_have_is_a_reject(
    tmp_path: Path, name: str, reason: str
) -> None:
    loose_tar(tmp_path / "a.tar", {"a.flac": sound(), f"a.{name}": b"", "b.flac": sound()})
    (clip,), (reject,) = tars(tmp_path / "a.tar")
    assert clip.name == "b"
    assert (reject.name, reject.reason, reject.figure) == ("a", reason, name)


def test_an_array_without_axes_is_a_value_error(tmp_path: Path) -> None:
    clip = {"__key__": "a", "flac": sound(), "x.npy": np.array(3.0)}
    source = WebDatasetTars(tar(tmp_path / "a.tar", clip), PackConfig())
    (found,), _ = listed(source)
    with pytest.raises(ValueError, match="an array without axes"):
        source.members(found)


def test_a_clip_without_other_members_carries_nothing(tmp_path: Path) -> None:
    source = WebDatasetTars(
        tar(tmp_path / "a.tar", {"__key__": "a", "flac": sound()}), PackConfig()
    )
    (found,), _ = listed(source)
    assert source.members(found) == {}


@pytest.mark.parametrize("broken", [b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04zip", b"\x80\x04pickle"])
def test_a_broken_array_is_a_value_error(tmp_path: Path, broken: bytes) -> None:
    loose_tar(tmp_path / "a.tar", {"a.flac": sound(), "a.x.npy": broken})
    source = WebDatasetTars(tmp_path / "a.tar", PackConfig())
    (found,), _ = listed(source)
    with pytest.raises(ValueError, match="an array that cannot be read"):
        source.members(found)


def test_a_tar_that_shrank_meanwhile_is_a_value_error(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", {"__key__": "a", "flac": sound(), "x.npy": np.arange(4)})
    source = WebDatasetTars(path, PackConfig())
    (found,), _ = listed(source)
    os.truncate(path, found.handle["members"][0][1] + 10)
    with pytest.raises(ValueError, match="the tar ends within a file"):
        source.members(found)


def test_clips_of_several_tars_are_named_after_their_tar(tmp_path: Path) -> None:
    clip = {"__key__": "folder/キー", "flac": sound()}
    for name in ("b/one.tar", "a/one.tar", "a/二.tar", ".hidden/x.tar", "a/._one.tar"):
        tar(tmp_path / name, clip)
    clips, _ = tars(tmp_path)
    assert [clip.name for clip in clips] == [
        "a/one/folder/キー",
        "a/二/folder/キー",
        "b/one/folder/キー",
    ]


def test_clips_of_our_own_shards_keep_their_names(tmp_path: Path) -> None:
    for number in (0, 1):
        facts = {"name": f"dir/a.{number}%", "text": "hi", "seconds": 0.5, "source": "corpus"}
        clip = {"__key__": f"dir/a%2E{number}%25", "flac": sound(), "json": facts}
        tar(tmp_path / f"shard-00000{number}.tar", clip)
    (tmp_path / "index.arrow").touch()
    clips, _ = tars(tmp_path)
    assert [clip.name for clip in clips] == ["dir/a.0%", "dir/a.1%"]
    assert clips[0].facts == {"source": "corpus"}


def test_what_was_packed_into_a_folder_below_is_not_packed_again(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", {"__key__": "a", "flac": sound()})
    tar(tmp_path / "deep" / "out" / "shard-000000-00.tar", {"__key__": "a", "flac": sound()})
    (tmp_path / "deep" / "out" / "pack.json").touch()
    clips, _ = tars(tmp_path)
    assert [clip.name for clip in clips] == ["a"]
    clips, _ = tars(tmp_path / "deep" / "out")
    assert [clip.name for clip in clips] == ["a"]


def test_foreign_tars_that_were_indexed_in_place_do_not_lose_clips_of_one_key(
    tmp_path: Path,
) -> None:
    for number in (0, 1):
        tar(tmp_path / f"{number}.tar", {"__key__": "a", "flac": sound()})
    (tmp_path / "index.arrow").touch()
    clips, _ = tars(tmp_path)
    assert [clip.name for clip in clips] == ["0/a", "1/a"]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"flac": b""}, "the audio is empty"),
        ({"flac": b"x", "json": b""}, "not JSON"),
        ({"flac": b"x", "json": b"[1]"}, "JSON that is no object"),
        ({"flac": b"x", "json": b"\xff{}"}, "JSON that is not UTF-8"),
        ({"flac": b"x", "json": SURROGATE.encode()}, "JSON with half a surrogate pair"),
        ({"flac": b"x", "json": b'{"duration": "long"}'}, "duration is not a number"),
        ({"flac": b"x", "txt": b"\xff"}, "text that is not UTF-8"),
        ({"json": b'{"text": "silence"}'}, "neither audio nor a length"),
    ],
)
def test_a_clip_with_broken_members_is_a_reject(
    tmp_path: Path, members: dict[str, bytes], reason: str
) -> None:
    good = {"__key__": "good", "flac": sound()}
    path = tar(tmp_path / "a.tar", {"__key__": "bad", **members}, good)
    clips, (reject,) = tars(path)
    assert [clip.name for clip in clips] == ["good"]
    assert (reject.name, reject.reason, reject.file) == ("bad", reason, str(path))


def test_a_torn_or_missing_tar_does_not_keep_others_from_being_read(tmp_path: Path) -> None:
    names = [f"k{number}" for number in range(5)]
    for name in ("a.tar", "b.tar"):
        tar(tmp_path / name, *[{"__key__": key, "flac": sound()} for key in names])
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:-12000])
    (tmp_path / "gone.tar").symlink_to(tmp_path / "nowhere.tar")
    (tmp_path / "empty.tar").touch()
    (tmp_path / "packed.tar.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "zipped.TAR").write_bytes(gzip.compress(b""))
    clips, rejects = tars(tmp_path)
    assert [clip.name for clip in clips if clip.name.startswith("b/")] == [f"b/{k}" for k in names]
    assert [clip.name for clip in clips if clip.name.startswith("a/")] == [
        f"a/{k}" for k in names[: len(clips) - 5]
    ]
    assert 5 < len(clips) < 10
    assert [(reject.name, reject.reason) for reject in rejects] == [
        ("a.tar", "a torn tar; its end is lost"),
        ("empty.tar", "a torn tar; its end is lost"),
        ("gone.tar", "a link to a tar that is not there"),
        ("packed.tar.gz", "a compressed tar; unpack it to a plain .tar"),
        ("zipped.TAR", "a compressed tar; unpack it to a plain .tar"),
    ]


def test_a_compressed_tar_and_a_folder_without_tars_are_one_sentence(tmp_path: Path) -> None:
    plain = tar(tmp_path / "tars" / "a.tar", {"__key__": "a", "flac": sound()})
    packed = tmp_path / "a.tar.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(UserError, match="unpack it"):
        WebDatasetTars(packed, PackConfig())
    plain.write_bytes(packed.read_bytes())
    with pytest.raises(UserError, match="unpack it"):
        tars(plain)
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"holds no \.tar"):
        WebDatasetTars(tmp_path / "none", PackConfig())


# Recognition


def test_each_kind_recognises_its_own_and_no_other(tmp_path: Path) -> None:
    nemo_path = manifest(tmp_path / "nemo.json", "", {"audio_filepath": "a.wav"})
    typed = manifest(tmp_path / "cuts.jsonl.gz", cut(type="MixedCut"))
    untyped = manifest(tmp_path / "cuts.jsonl", cut(type=None))
    one = tar(tmp_path / "tars" / "en" / "a.tar", {"__key__": "a", "flac": sound()})
    own = {
        nemo_path: NemoManifest,
        typed: LhotseCuts,
        untyped: LhotseCuts,
        one: WebDatasetTars,
        one.parent.parent: WebDatasetTars,
    }
    for path, kind in own.items():
        assert [found for found in KINDS if found.recognises(path)] == [kind], path


def test_nothing_else_is_recognised_and_nothing_odd_raises(tmp_path: Path) -> None:
    (tmp_path / "audio" / "sub").mkdir(parents=True)
    tar(tmp_path / "audio" / "corpus.tar", {"__key__": "a", "flac": sound()})
    (tmp_path / "audio" / "sub" / "a.WAV").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "noise.jsonl.gz").write_bytes(b"\x1f\x8bnoise")
    (tmp_path / "binary.json").write_bytes(bytes(range(256)))
    (tmp_path / "empty.json").touch()
    manifest(tmp_path / "array.json", [{"audio_filepath": "a.wav"}])
    manifest(tmp_path / "deep.json", "[" * 100_000)
    names = [path.name for path in tmp_path.iterdir()]
    names += ["missing.json", "n\0ul.json", "x" * 5000 + ".json", "audio/corpus.tar/inside.json"]
    for name in names:
        assert not [kind for kind in KINDS if kind.recognises(tmp_path / name)], name
