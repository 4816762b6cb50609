"""The spoken demo corpus."""

from pathlib import Path

import pytest
import soundfile

from shards.demo import speak_corpus
from shards.errors import UserError

CLIPS = 36


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return speak_corpus(tmp_path_factory.mktemp("corpus"), clips=CLIPS, workers=2)


def rows(listing: Path) -> list[list[str]]:
    return [line.split("|") for line in listing.read_text("utf-8").splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_list_names_every_file_with_speaker_language_and_text(corpus: Path) -> None:
    listed = rows(corpus)
    assert corpus.name == "speech.list"
    assert all(len(row) == 4 and all(row) for row in listed)
    on_disk = {f"speech/{path.name}" for path in (corpus.parent / "speech").iterdir()}
    assert {row[0] for row in listed} == on_disk
    assert len(on_disk) == CLIPS


def test_many_speakers_speak_both_languages(corpus: Path) -> None:
    speakers = {
        language: {r[1] for r in rows(corpus) if r[2] == language} for language in ("EN", "ZH")
    }
    assert len(speakers["EN"]) >= 4
    assert len(speakers["ZH"]) >= 4
    assert not speakers["EN"] & speakers["ZH"]


def test_text_is_in_the_language_of_its_line(corpus: Path) -> None:
    for _, _, language, text in rows(corpus):
        assert text.isascii() == (language == "EN")


def test_clips_are_16_khz_mono_16_bit_flac_from_about_1_to_30_seconds(corpus: Path) -> None:
    facts = [soundfile.info(corpus.parent / row[0]) for row in rows(corpus)]
    assert {(f.samplerate, f.channels, f.format, f.subtype) for f in facts} == {
        (16_000, 1, "FLAC", "PCM_16")
    }
    seconds = sorted(fact.duration for fact in facts)
    assert 1 <= seconds[0] < 2
    assert 20 < seconds[-1] <= 30
    assert 4.5 < seconds[CLIPS // 2] < 7.5


def test_the_files_do_not_depend_on_the_number_of_workers(corpus: Path, tmp_path: Path) -> None:
    speak_corpus(tmp_path, clips=CLIPS, workers=1)
    assert contents(tmp_path) == contents(corpus.parent)


def test_a_corpus_that_is_there_is_left_alone(tmp_path: Path) -> None:
    listing = speak_corpus(tmp_path, clips=2, workers=1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert speak_corpus(tmp_path, clips=2, workers=2) == listing
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_another_seed_replaces_the_corpus_and_leaves_nothing_of_the_old(tmp_path: Path) -> None:
    old = rows(speak_corpus(tmp_path, clips=3, workers=1))
    new = rows(speak_corpus(tmp_path, clips=2, seed=1, workers=1))
    assert [row[3] for row in new] != [row[3] for row in old[:2]]
    assert len(list((tmp_path / "speech").iterdir())) == 2


def test_an_interrupted_corpus_is_completed_to_the_same_files(corpus: Path, tmp_path: Path) -> None:
    speak_corpus(tmp_path, clips=CLIPS, workers=2)
    (tmp_path / "speech.list").unlink()
    (tmp_path / rows(corpus)[5][0]).write_bytes(b"cut off")
    speak_corpus(tmp_path, clips=CLIPS, workers=2)
    assert contents(tmp_path) == contents(corpus.parent)


@pytest.mark.parametrize(("clips", "workers"), [(0, 1), (1, 0)])
def test_less_than_one_clip_or_worker_is_a_user_error(
    clips: int, workers: int, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="at least 1"):
        speak_corpus(tmp_path, clips=clips, workers=workers)
