from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import UserError
from shards.pack.config import PackConfig
from shards.sources import open_source
from shards.sources.annotation_list import AnnotationList
from shards.sources.ljspeech import LjSpeech
from shards.sources.paths import without_wav
from shards.sources.source import Recording, Reject, Source

CONFIG = PackConfig()


def found(source: Source) -> list[Recording]:
    return [one for one in source.recordings() if isinstance(one, Recording)]


def rejects(source: Source) -> list[Reject]:
    return [one for one in source.recordings() if isinstance(one, Reject)]


def paths(source: Source) -> list[Path]:
    return [one.audio.path for one in found(source) if one.audio]


def annotations(folder: Path, content: str | bytes) -> AnnotationList:
    data = content if isinstance(content, bytes) else content.encode()
    (folder / "speech.list").write_bytes(data)
    return AnnotationList(folder / "speech.list", CONFIG)


def ljspeech(folder: Path, content: str | bytes, *audio: str) -> LjSpeech:
    (folder / "wavs").mkdir(parents=True)
    for name in audio:
        (folder / "wavs" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "wavs" / name).touch()
    data = content if isinstance(content, bytes) else content.encode()
    (folder / "metadata.csv").write_bytes(data)
    return LjSpeech(folder, CONFIG)


# GPT-SoVITS lists


def test_a_line_is_path_speaker_language_and_text(tmp_path: Path) -> None:
    source = annotations(tmp_path, "wavs/a.wav|anna|EN|Hello.\n/data/b.wav|bert|ZH|你好\n")
    first, second = found(source)
    assert (first.name, first.speaker, first.language, first.text) == (
        "wavs/a",
        "anna",
        "EN",
        "Hello.",
    )
    assert second.name == "data/b"
    assert paths(source) == [tmp_path / "wavs/a.wav", Path("/data/b.wav")]
    assert source.default_features == ("phonemes.espeak", "units.mfcc")


def test_marks_line_ends_and_spaces_around_fields_are_no_part_of_them(tmp_path: Path) -> None:
    source = annotations(tmp_path, "\ufeffa.wav | anna|EN| Hi \r\n\r\n  \nb.wav|anna|EN|Ho")
    assert [(one.name, one.speaker, one.text) for one in found(source)] == [
        ("a", "anna", "Hi"),
        ("b", "anna", "Ho"),
    ]
    assert rejects(source) == []


def test_names_and_texts_may_hold_anything_but_bars_and_line_feeds(tmp_path: Path) -> None:
    stems = ["你好 1", "سلام", "🎙", "a%2E.b c", "x/../y", "tab\tbed", "u\u2028v"]
    text = "one\ttwo\0three\u2028four\x0bfive\x85six"
    lines = "".join(f"{stem}.wav|s|EN|{text}\n" for stem in stems)
    source = annotations(tmp_path, lines)
    assert [one.name for one in found(source)] == stems
    assert {one.text for one in found(source)} == {text}


def test_only_wav_is_left_out_of_names(tmp_path: Path) -> None:
    files = ["a.wav", "a.flac", "a.WAV", "b/a.wav", "a.flac.wav", "noname", ".wav", "d/.wav"]
    source = annotations(tmp_path, "".join(f"{file}|s|EN|t\n" for file in files))
    kept = ["a", "a.flac", "a.WAV", "b/a", "a.flac.wav", "noname", ".wav", "d/.wav"]
    assert [one.name for one in found(source)] == kept


AUDIO = st.builds(
    str.__add__,
    st.text("a./", min_size=1, max_size=5),
    st.sampled_from([".wav", ".WAV", ".flac", ".wav.flac", ".flac.wav", ".mp3"]),
)


@given(st.sets(AUDIO))
def test_audio_files_of_a_list_never_share_a_name(files: set[str]) -> None:
    assert len({without_wav(file) for file in files}) == len(files)


def test_lines_that_are_not_four_fields_are_rejected_with_their_number(tmp_path: Path) -> None:
    lines = ["a.wav|s|EN", "ok.wav|s|EN|t", "a.wav|s|EN|one|two", "|s|EN|t", "n\0.wav|s|EN|t"]
    source = annotations(tmp_path, "\n".join(lines))
    assert [one.name for one in found(source)] == ["ok"]
    assert [one.name for one in rejects(source)] == ["line 1", "line 3", "line 4", "line 5"]
    assert {one.reason for one in rejects(source)} == {"not path|speaker|language|text"}
    assert rejects(source)[0].figure == "a.wav|s|EN"
    assert rejects(source)[0].file == str(tmp_path / "speech.list")


def test_a_language_that_was_to_be_guessed_is_none(tmp_path: Path) -> None:
    source = annotations(tmp_path, "a.wav|s|AUTO|t\nb.wav|s|auto|t\nc.wav|s||t\nd.wav||yue|\n")
    assert [one.language for one in found(source)] == ["", "", "", "yue"]
    assert (found(source)[3].text, found(source)[3].speaker) == ("", "")


def test_windows_paths_and_missing_files_are_left_to_decoding(tmp_path: Path) -> None:
    source = annotations(tmp_path, "D:\\speech\\a.wav|s|EN|t\ngone.wav|s|EN|t\n")
    assert [one.name for one in found(source)] == ["D:\\speech\\a", "gone"]


def test_a_list_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"speech\.list is not UTF-8 .*; convert it"):
        found(annotations(tmp_path, "a.wav|s|EN|caf\xe9\n".encode("latin-1")))


def test_an_empty_list_lists_nothing(tmp_path: Path) -> None:
    assert list(annotations(tmp_path, "").recordings()) == []
    assert list(annotations(tmp_path, "\ufeff\n").recordings()) == []


def test_a_folder_with_exactly_one_list_is_a_list(tmp_path: Path) -> None:
    annotations(tmp_path, "a.wav|s|EN|t\n")
    (tmp_path / "a.wav").touch()
    (tmp_path / ".old.list").touch()
    (tmp_path / "folder.list").mkdir()
    source = open_source(tmp_path, None, CONFIG)
    assert (source.kind, [one.name for one in found(source)]) == ("list", ["a"])
    (tmp_path / "second.list").touch()
    assert not AnnotationList.recognises(tmp_path)
    with pytest.raises(UserError, match=r"one \.list file; name that"):
        AnnotationList(tmp_path, CONFIG)
    assert open_source(tmp_path / "second.list", None, CONFIG).kind == "list"


# LJSpeech


def test_the_third_field_is_the_text_and_the_second_is_kept(tmp_path: Path) -> None:
    content = "LJ001|in 1455|in fourteen fifty-five\nLJ002|Yes.|Yes.\nLJ003|Two\nLJ004|Dr.|\n"
    source = ljspeech(tmp_path / "Linda", content)
    assert [(one.name, one.text) for one in found(source)] == [
        ("LJ001", "in fourteen fifty-five"),
        ("LJ002", "Yes."),
        ("LJ003", "Two"),
        ("LJ004", "Dr."),
    ]
    assert [one.facts for one in found(source)] == [{"written": "in 1455"}, {}, {}, {}]
    assert {one.speaker for one in found(source)} == {"Linda"}
    assert {one.language for one in found(source)} == {""}


def test_the_audio_of_an_id_is_found_whatever_its_suffix(tmp_path: Path) -> None:
    files = ["a.wav", "b.flac", "sub/c.mp3", "d.ogg", "e.f.wav", "both.wav", "both.flac"]
    content = "".join(f"{name}|t\n" for name in ("a", "b", "sub/c", "d.ogg", "e.f", "both", "gone"))
    source = ljspeech(tmp_path / "lj", content, *files)
    wavs = tmp_path / "lj" / "wavs"
    expected = ["a.wav", "b.flac", "sub/c.mp3", "d.ogg", "e.f.wav", "both.wav", "gone.wav"]
    assert paths(source) == [wavs / name for name in expected]


def test_ids_with_and_without_a_suffix_are_different_clips_unless_they_are_one_file(
    tmp_path: Path,
) -> None:
    source = ljspeech(tmp_path / "lj", "a|t\na.wav|t\na.flac|t\n", "a.wav", "a.flac")
    assert [one.name for one in found(source)] == ["a", "a", "a.flac"]
    assert [path.name for path in paths(source)] == ["a.wav", "a.wav", "a.flac"]


def test_lines_of_another_shape_are_rejected_with_their_number(tmp_path: Path) -> None:
    content = '\ufeffa|one\r\nb\n\n|text\nc|1|2|3\nd\0|text\n"e"|"quoted|\nf\t|ta\tb\u2028c\0\n'
    source = ljspeech(tmp_path / "lj", content)
    assert [(one.name, one.text) for one in found(source)] == [
        ("a", "one"),
        ('"e"', '"quoted'),
        ("f", "ta\tb\u2028c\0"),
    ]
    assert [one.name for one in rejects(source)] == ["line 2", "line 4", "line 5", "line 6"]
    assert {one.reason for one in rejects(source)} == {"not id|text or id|text|normalised text"}


def test_names_in_any_script_are_kept(tmp_path: Path) -> None:
    stems = ["你好", "سلام", "🎙 %2E", "a.b"]
    source = ljspeech(tmp_path / "声音", "".join(f"{stem}|text\n" for stem in stems))
    assert [one.name for one in found(source)] == stems
    assert {one.speaker for one in found(source)} == {"声音"}


def test_the_speaker_of_a_relative_path_is_the_folder_it_leads_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ljspeech(tmp_path / "linda", "a|t\n")
    monkeypatch.chdir(tmp_path / "linda" / "wavs")
    assert found(LjSpeech(Path(".."), CONFIG))[0].speaker == "linda"


def test_metadata_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metadata\.csv is not UTF-8"):
        found(ljspeech(tmp_path / "lj", b"a|caf\xe9\n"))


def test_empty_metadata_lists_nothing(tmp_path: Path) -> None:
    assert list(ljspeech(tmp_path / "lj", "").recordings()) == []


def test_ljspeech_is_recognised_by_both_of_its_parts(tmp_path: Path) -> None:
    ljspeech(tmp_path / "lj", "a|t\n", "a.wav")
    assert open_source(tmp_path / "lj", None, CONFIG).kind == "ljspeech"
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "metadata.csv").touch()
    assert not LjSpeech.recognises(tmp_path / "csv")
    with pytest.raises(UserError, match=r"has no metadata\.csv"):
        LjSpeech(tmp_path / "lj" / "wavs", CONFIG)


@pytest.mark.parametrize("kind", [AnnotationList, LjSpeech])
def test_odd_paths_are_not_recognised(tmp_path: Path, kind: type[Source]) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "empty").mkdir()
    for odd in ("a.wav", "a.wav/b", "gone", "empty", "nul\0", "x" * 300, "\udcff"):
        assert not kind.recognises(tmp_path / odd)
