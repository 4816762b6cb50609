from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import UserError
from shards.pack.config import PackConfig
from shards.sources import open_source
from shards.sources.folder import AudioFolder
from shards.sources.source import Recording, Reject, Source
from shards.sources.transcribed_tree import TranscribedTree
from shards.sources.tree import Level

CONFIG = PackConfig()


def put(root: Path, *names: str) -> Path:
    """Empty files: nothing here opens audio."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write(root: Path, texts: dict[str, str | bytes]) -> Path:
    for name, text in texts.items():
        put(root, name)
        (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def found(source: Source) -> list[Recording]:
    return [one for one in source.recordings() if isinstance(one, Recording)]


def rejected(source: Source) -> list[tuple[str, str]]:
    return [(one.name, one.reason) for one in source.recordings() if isinstance(one, Reject)]


def names(root: Path) -> list[str]:
    return [one.name for one in found(AudioFolder(root, CONFIG))]


def texts(root: Path) -> dict[str, str]:
    return {one.name: one.text for one in found(TranscribedTree(root, CONFIG))}


def speakers(source: Source) -> dict[str, str]:
    return {one.name: one.speaker for one in found(source)}


# Folder trees


def test_the_first_folder_level_is_the_speaker(tmp_path: Path) -> None:
    put(tmp_path, "a.wav", "anna/b.flac", "anna/day 2/c.mp3", "Bert/d.OPUS")
    source = AudioFolder(tmp_path, CONFIG)
    assert speakers(source) == {"a": "", "Bert/d": "Bert", "anna/b": "anna", "anna/day 2/c": "anna"}
    first = found(source)[0]
    assert first.audio and first.audio.path == tmp_path / "a.wav"
    assert (first.text, first.language, first.seconds) == ("", "", None)


def test_the_order_is_that_of_the_names_and_the_same_each_time(tmp_path: Path) -> None:
    put(tmp_path, "z/2.wav", "z/10.wav", "b/x.wav", "b/c/y.wav", "m.wav", "a-1.wav", "a.wav")
    assert names(tmp_path) == ["a-1", "a", "m", "b/x", "b/c/y", "z/10", "z/2"]
    assert names(tmp_path) == names(tmp_path)


def test_files_that_share_a_stem_keep_their_suffixes(tmp_path: Path) -> None:
    put(tmp_path, "s/a.wav", "s/a.flac", "s/A.WAV", "s/b.wav", "t/a.wav", "t/a.wav.flac")
    assert names(tmp_path) == ["s/A", "s/a.flac", "s/a.wav", "s/b", "t/a", "t/a.wav.flac"]


STEMS = st.text("aA.-", min_size=1, max_size=4).filter(lambda stem: not stem.startswith("."))
ENDINGS = st.sampled_from([".wav", ".WAV", ".flac", ".mp3", ".wav.wav", ".flac.wav", ".wav.flac"])


@given(st.sets(st.builds(str.__add__, STEMS, ENDINGS)))
def test_no_file_gets_the_name_of_another(files: set[str]) -> None:
    level = Level("s", audio=sorted(files))
    listed = [one for one in level.recordings(Path("/root")) if isinstance(one, Recording)]
    assert len({one.name for one in listed}) == len(files)
    assert [one.audio.path.name for one in listed if one.audio] == sorted(files)


def test_names_in_any_script_with_dots_spaces_and_percent_signs_stay_as_they_are(
    tmp_path: Path,
) -> None:
    stems = ["你好/第 1.句", "سلام/ملف", "🎙/a%2E.b", "tab\there/x\ny", "e\u0301/é", "u\u2028v/w"]
    put(tmp_path, *(f"{stem}.wav" for stem in stems))
    assert sorted(names(tmp_path)) == sorted(stems)


def test_hidden_files_and_whatever_is_not_audio_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, ".hidden.wav", "._a.wav", ".git/b.wav", "notes.txt", "wav", "c.wav.part", "d.wav")
    assert names(tmp_path) == ["d"]
    assert rejected(AudioFolder(tmp_path, CONFIG)) == []


def test_names_that_are_not_utf8_are_rejected_one_by_one(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    Path(os.fsdecode(root + b"/sp\xe9aker")).mkdir()
    for name in (b"/sp\xe9aker/a.wav", b"/b\xff.wav", b"/good.wav"):
        Path(os.fsdecode(root + name)).touch()
    source = AudioFolder(tmp_path, CONFIG)
    reason = "name is not UTF-8"
    assert rejected(source) == [("b\\xff", reason), ("sp\\xe9aker/a", reason)]
    assert names(tmp_path) == ["good"]
    for reject in source.recordings():
        if isinstance(reject, Reject):
            assert reject.file.encode().startswith(root)


def test_audio_that_nothing_here_decodes_is_reported(tmp_path: Path) -> None:
    put(tmp_path, "a.m4a", "b.wav")
    (reject,) = (o for o in AudioFolder(tmp_path, CONFIG).recordings() if isinstance(o, Reject))
    assert (reject.name, reject.figure) == ("a", ".m4a")
    assert names(tmp_path) == ["b"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    put(tmp_path / "disk", "one.wav", "deep/two.wav")
    root = put(tmp_path / "corpus", "anna/three.wav")
    (root / "bert").symlink_to(tmp_path / "disk")
    (root / "four.wav").symlink_to(tmp_path / "disk" / "one.wav")
    (root / "anna" / "again").symlink_to(root / "anna")
    (root / "up").symlink_to("..")
    (tmp_path / "disk" / "back").symlink_to(root)
    assert names(root) == ["four", "anna/three", "bert/one", "bert/deep/two"]
    reason = "link to a folder that it lies in"
    assert rejected(AudioFolder(root, CONFIG)) == [
        ("up/", reason),
        ("anna/again/", reason),
        ("bert/back/", reason),
    ]


def test_links_to_nowhere_and_pipes_are_rejected(tmp_path: Path) -> None:
    put(tmp_path, "good.wav")
    (tmp_path / "lost.wav").symlink_to("gone.wav")
    (tmp_path / "loop.wav").symlink_to("pool.wav")
    (tmp_path / "pool.wav").symlink_to("loop.wav")
    (tmp_path / "lost").symlink_to("gone")
    os.mkfifo(tmp_path / "pipe.wav")
    reason = "neither a file nor a folder"
    assert rejected(AudioFolder(tmp_path, CONFIG)) == [
        (name, reason) for name in ("loop.wav", "lost.wav", "pipe.wav", "pool.wav")
    ]
    assert names(tmp_path) == ["good"]
    assert AudioFolder.recognises(tmp_path)


def test_a_folder_lost_while_it_is_listed_is_a_reject(tmp_path: Path) -> None:
    put(tmp_path, "a/1.wav", "b/2.wav", "c/3.wav")
    listing = AudioFolder(tmp_path, CONFIG).recordings()
    assert [one.name for one in islice(listing, 1)] == ["a/1"]
    (tmp_path / "b/2.wav").unlink()
    (tmp_path / "b").rmdir()
    lost, last = listing
    assert isinstance(lost, Reject) and isinstance(last, Recording)
    assert (lost.name, lost.reason, last.name) == ("b/", "folder cannot be read", "c/3")
    assert lost.figure == "No such file or directory" and lost.file == str(tmp_path / "b")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_a_reject(tmp_path: Path) -> None:
    put(tmp_path, "a/1.wav", "b/2.wav")
    (tmp_path / "a").chmod(0)
    try:
        assert rejected(AudioFolder(tmp_path, CONFIG)) == [("a/", "folder cannot be read")]
        assert not AudioFolder.recognises(tmp_path / "a" / "inside")
    finally:
        (tmp_path / "a").chmod(0o755)


# Trees with texts


def test_a_text_beside_the_audio_is_its_text(tmp_path: Path) -> None:
    put(tmp_path, "s/a.wav", "s/b.wav", "s/c.wav", "s/d.mp3")
    write(
        tmp_path,
        {
            "s/a.txt": "\ufeffHello\r\n",
            "s/b.txt": "你好\u2028🎙\n",
            "s/c.txt": "",
            "s/a.wav.txt": "not this",
        },
    )
    assert texts(tmp_path) == {"s/a": "Hello", "s/b": "你好\u2028🎙", "s/c": "", "s/d": ""}
    assert set(speakers(TranscribedTree(tmp_path, CONFIG)).values()) == {"s"}


def test_texts_keep_nul_and_tabs_for_the_cleaning_that_follows(tmp_path: Path) -> None:
    put(tmp_path, "a.wav")
    write(tmp_path, {"a.txt": "one\ttwo\0three"})
    assert texts(tmp_path) == {"a": "one\ttwo\0three"}


def test_libritts_gives_the_normalised_text_and_keeps_the_written_one(tmp_path: Path) -> None:
    clip = "train-clean-100/19/198/19_198_000000_000000"
    put(tmp_path, f"{clip}.wav", "train-clean-100/19/198/19_198_1.wav")
    write(
        tmp_path,
        {
            f"{clip}.normalized.txt": "Doctor Moon",
            f"{clip}.original.txt": "Dr. Moon",
            "train-clean-100/19/198/19_198_1.normalized.txt": "Yes.",
            "train-clean-100/19/198/19_198_1.original.txt": "Yes.",
        },
    )
    first, second = found(TranscribedTree(tmp_path, CONFIG))
    assert (first.name, first.text, first.speaker) == (clip, "Doctor Moon", "19")
    assert first.facts == {"written": "Dr. Moon"}
    assert (second.text, second.facts) == ("Yes.", {})


def test_librispeech_has_its_texts_in_a_file_for_each_chapter(tmp_path: Path) -> None:
    folder = "dev/84/121123"
    put(tmp_path, *(f"{folder}/84-121123-000{n}.flac" for n in range(4)))
    lines = b"\xef\xbb\xbf84-121123-0000 GO\r\n84-121123-0001\tDO YOU HEAR\n\n84-121123-0002 \xff\n"
    write(tmp_path, {f"{folder}/84-121123.trans.txt": lines})
    source = TranscribedTree(tmp_path, CONFIG)
    assert texts(tmp_path) == {
        f"{folder}/84-121123-0000": "GO",
        f"{folder}/84-121123-0001": "DO YOU HEAR",
        f"{folder}/84-121123-0003": "",
    }
    assert rejected(source) == [(f"{folder}/84-121123-0002", "text is not UTF-8")]
    assert set(speakers(source).values()) == {"84"}


def test_both_of_vctks_microphones_have_the_text(tmp_path: Path) -> None:
    put(tmp_path, "wav48_silence_trimmed/p225/p225_001_mic1.flac")
    put(tmp_path, "wav48_silence_trimmed/p225/p225_001_mic2.flac")
    put(tmp_path, "wav48_silence_trimmed/p315/p315_001_mic1.flac")
    write(tmp_path, {"txt/p225/p225_001.txt": "Please call Stella.\n"})
    source = TranscribedTree(tmp_path, CONFIG)
    folder = "wav48_silence_trimmed"
    assert texts(tmp_path) == {
        f"{folder}/p225/p225_001_mic1": "Please call Stella.",
        f"{folder}/p225/p225_001_mic2": "Please call Stella.",
        f"{folder}/p315/p315_001_mic1": "",
    }
    assert set(speakers(source).values()) == {"p225", "p315"}


def test_older_vctk_is_read_wherever_it_lies(tmp_path: Path) -> None:
    put(tmp_path, "VCTK-Corpus/wav48/p226/p226_002.wav")
    write(tmp_path, {"VCTK-Corpus/txt/p226/p226_002.txt": "Ask her."})
    (only,) = found(TranscribedTree(tmp_path, CONFIG))
    assert (only.text, only.speaker) == ("Ask her.", "p226")


def test_a_folder_called_wav48_without_texts_beside_it_is_no_vctk(tmp_path: Path) -> None:
    put(tmp_path, "wav48k/anna/a.wav")
    assert speakers(TranscribedTree(tmp_path, CONFIG)) == {"wav48k/anna/a": "wav48k"}


def test_texts_that_are_not_utf8_reject_their_clip_alone(tmp_path: Path) -> None:
    put(tmp_path, "a.wav", "b.wav", "c.wav", "c.original.txt", "d.m4a")
    write(tmp_path, {"a.txt": b"caf\xe9", "b.txt": "caf\u00e9", "c.txt": "c"})
    (tmp_path / "c.original.txt").write_bytes("\u00e9".encode("utf-16"))
    assert texts(tmp_path) == {"b": "café"}
    source = TranscribedTree(tmp_path, CONFIG)
    reasons = ["text is not UTF-8", "text is not UTF-8", "audio format is not decoded; convert it"]
    assert rejected(source) == list(zip("acd", reasons, strict=True))


def test_a_text_lost_while_it_is_listed_rejects_its_clip(tmp_path: Path) -> None:
    put(tmp_path, "a.wav", "b.wav", "a.txt", "b.txt")
    listing = TranscribedTree(tmp_path, CONFIG).recordings()
    next(listing)
    (tmp_path / "b.txt").unlink()
    (lost,) = listing
    assert isinstance(lost, Reject) and lost.reason == "text cannot be read"


# Recognition


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (["a.wav"], "folder"),
        (["anna/day/deep/a.FLAC", "readme.txt"], "folder"),
        (["anna/a.wav", "b.txt"], "folder"),
        (["anna/a.wav", "bert/b.wav", "bert/b.txt"], "text_tree"),
        (["19/198/19_198_0.wav", "19/198/19_198_0.normalized.txt"], "text_tree"),
        (["19/198/19-198-0.flac", "19/198/19-198.trans.txt"], "text_tree"),
        (["wav48/p225/p225_1.wav", "txt/p225/p225_1.txt"], "text_tree"),
        (["wav48_x/p225/p225_1_mic2.flac", "txt/p225/p225_1.txt"], "text_tree"),
        (["noise/" + f"{n:03}.wav" for n in range(50)] + ["s/a.wav", "s/a.txt"], "text_tree"),
    ],
)
def test_trees_are_recognised(tmp_path: Path, files: list[str], kind: str) -> None:
    put(tmp_path, *files)
    assert open_source(tmp_path, None, CONFIG).kind == kind


def test_links_do_not_lead_recognition_astray(tmp_path: Path) -> None:
    put(tmp_path / "disk", "a.wav", "a.txt")
    root = put(tmp_path / "corpus", "notes.md")
    (root / "round").symlink_to(root)
    assert not AudioFolder.recognises(root)
    (root / "anna").symlink_to(tmp_path / "disk")
    assert open_source(root, None, CONFIG).kind == "text_tree"


@pytest.mark.parametrize("kind", [AudioFolder, TranscribedTree])
def test_what_is_no_folder_with_audio_is_not_recognised(tmp_path: Path, kind: type[Source]) -> None:
    put(tmp_path, "a.wav", "empty/.hidden.wav", "text/a.txt")
    for odd in ("a.wav", "a.wav/b", "gone", "empty", "text", "nul\0", "x" * 300, "\udcff"):
        assert not kind.recognises(tmp_path / odd)


@pytest.mark.parametrize("kind", [AudioFolder, TranscribedTree])
def test_a_file_is_no_tree(tmp_path: Path, kind: type[Source]) -> None:
    put(tmp_path, "a.wav")
    with pytest.raises(UserError, match=r"a\.wav is no folder; name the folder"):
        kind(tmp_path / "a.wav", CONFIG)
