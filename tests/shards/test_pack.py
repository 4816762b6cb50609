from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
import webdataset
import xxhash

from shards.demo import speak_corpus
from shards.errors import UserError
from shards.features.model_folder import turn
from shards.index import Index
from shards.pack import blocks, layout, listing
from shards.pack.config import (
    AudioConfig,
    CutConfig,
    DuplicatesConfig,
    PackConfig,
    QualityConfig,
    UnitsConfig,
)
from shards.pack.finish import PackReport
from shards.pack.job import Part, pack, pool_of
from shards.pack.merge import merge
from shards.pack.state import State
from shards.pack.work import hold
from shards.verify import verify

SPOKEN = PackConfig(units=UnitsConfig(clusters=50), shard_hours=0.02)


def packed(source: Path, out: Path, config: PackConfig, **how: object) -> PackReport:
    report = pack(source, out, config, **{"workers": 0, **how})
    assert report is not None
    return report


def rejects(out: Path) -> list[dict[str, str]]:
    return pyarrow.parquet.read_table(out / "rejects.parquet").to_pylist()


def clips(out: Path) -> dict[str, dict[str, object]]:
    """Every clip as webdataset reads it, by name."""
    shards = sorted(str(path) for path in out.glob("*.tar"))
    found = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
    return {json.loads(clip["json"])["name"]: clip for clip in found}


def tree_bytes(out: Path) -> dict[str, bytes]:
    kept = ("*.tar", "index.arrow", "rejects.parquet", "*.npz")
    return {path.name: path.read_bytes() for kind in kept for path in out.glob(kind)}


def wave(seconds: float, seed: int = 0, rate: int = 8000) -> np.ndarray:
    """Something that passes for speech: noise that comes and goes."""
    chance = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    beats = 0.02 + np.clip(np.sin(2 * np.pi * 2 * times + seed), 0, 1)
    return (0.3 * beats * chance.standard_normal(len(times))).clip(-1, 1).astype(np.float32)


def write_wave(path: Path, seconds: float, seed: int = 0, rate: int = 8000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave(seconds, seed, rate), rate)
    return path


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(speech.list of 24 clips, their shards)."""
    root = tmp_path_factory.mktemp("spoken")
    listed = speak_corpus(root, clips=24, workers=2)
    pack(listed, root / "shards", SPOKEN, workers=2)
    return listed, root / "shards"


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder tree of 40 clips of 1 to 5 s of four speakers."""
    root = tmp_path_factory.mktemp("voices") / "corpus"
    for number in range(40):
        write_wave(root / f"speaker{number % 4}" / f"{number:02d}.wav", 1 + number / 10, number)
    return root


@pytest.fixture(scope="module")
def many_blocks(tmp_path_factory: pytest.TempPathFactory, voices: Path) -> tuple[PackConfig, Path]:
    """Settings that make several blocks of ``voices``, and what one job makes of them."""
    config = PackConfig(shard_hours=0.001, validation=0.2)
    out = tmp_path_factory.mktemp("whole")
    packed(voices, out, config, workers=2)
    return config, out


def test_shards_are_plain_webdataset(spoken: tuple[Path, Path]) -> None:
    shards = sorted(str(path) for path in spoken[1].glob("*.tar"))
    found = list(webdataset.WebDataset(shards, shardshuffle=False).decode())
    assert len(found) == 24
    for clip in found:
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
        for name in index.figures:
            assert facts[name] == pytest.approx(index.numbers(name)[row], abs=1e-3)


def test_each_shard_of_a_block_holds_clips_of_like_length(spoken: tuple[Path, Path]) -> None:
    index = Index.open(spoken[1])
    shards = np.array([index.shard(row) for row in range(len(index))])
    blocks = {shard[:12] for shard in shards}
    assert len(set(shards)) > len(blocks)
    for block in blocks:
        spans = sorted(
            (index.seconds[shards == s].min(), index.seconds[shards == s].max())
            for s in set(shards)
            if s.startswith(block)
        )
        assert all(before[1] <= after[1] for before, after in pairwise(spans))


def test_the_same_corpus_gives_the_same_bytes_with_any_number_of_workers(
    spoken: tuple[Path, Path], tmp_path: Path
) -> None:
    packed(spoken[0], tmp_path, SPOKEN, workers=1)
    assert tree_bytes(tmp_path) == tree_bytes(spoken[1])


def test_a_shard_that_was_lost_or_cut_off_is_made_again_and_others_are_kept(
    many_blocks: tuple[PackConfig, Path], voices: Path, tmp_path: Path
) -> None:
    config, whole = many_blocks
    packed(voices, tmp_path, config)
    lost, cut, *_, kept = sorted(tmp_path.glob("*.tar"))
    assert kept.name[:12] not in {lost.name[:12], cut.name[:12]}
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:-1000])
    (tmp_path / "index.arrow").unlink()
    before = kept.stat().st_mtime_ns
    packed(voices, tmp_path, config)
    assert kept.stat().st_mtime_ns == before
    assert tree_bytes(tmp_path) == tree_bytes(whole)


def test_a_pack_killed_anywhere_and_begun_again_gives_the_same_bytes(
    many_blocks: tuple[PackConfig, Path], voices: Path, tmp_path: Path
) -> None:
    config, whole = many_blocks
    (tmp_path / "pack.yaml").write_text(json.dumps(config.model_dump(mode="json")))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "shards", "pack", str(voices), str(out)]
    command += ["--config", str(tmp_path / "pack.yaml"), "--workers", "2"]
    for number in range(3):
        job = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 60
        while job.poll() is None and time.monotonic() < deadline:
            if len(list((out / ".pack").glob("block-*.json"))) > number:
                os.killpg(job.pid, signal.SIGKILL)
                break
            time.sleep(0.001)
        job.wait()
    packed(voices, out, config)
    assert tree_bytes(out) == tree_bytes(whole)
    left = {path.name for path in (out / ".pack").iterdir()}
    assert all(name.startswith("block-") for name in left), left
    assert not [path for path in out.iterdir() if path.name.startswith(".shard")]


def test_parts_and_a_merge_give_what_one_job_gives(
    many_blocks: tuple[PackConfig, Path], voices: Path, tmp_path: Path
) -> None:
    config, whole = many_blocks
    together, apart = tmp_path / "together", tmp_path / "apart"
    for number in (2, 1, 3):
        assert pack(voices, together, config, part=Part(number, 3), workers=0) is None
        if number == 2:
            with pytest.raises(UserError, match=r"of \d+ blocks, without 0, 2, 3; run the"):
                merge(together)
    merge(together)
    assert tree_bytes(together) == tree_bytes(whole)
    for number in (1, 2):
        pack(voices, apart / str(number), config, part=Part(number, 2), workers=0)
    merge(apart / "out", [apart / "1", apart / "2"])
    assert tree_bytes(apart / "out") == tree_bytes(whole)


def test_parts_with_other_settings_are_not_merged(voices: Path, tmp_path: Path) -> None:
    for number, seed in ((1, 0), (2, 1)):
        config = PackConfig(shard_hours=0.001, seed=seed)
        pack(voices, tmp_path / str(number), config, part=Part(number, 2), workers=0)
    with pytest.raises(UserError, match=r"seed was 0 and is now 1|seed was 1 and is now 0"):
        merge(tmp_path / "out", [tmp_path / "1", tmp_path / "2"])
    with pytest.raises(UserError, match=r"holds no pack\.json of ours"):
        merge(tmp_path / "nothing")


def test_what_differs_in_a_model_is_named_alone(voices: Path, tmp_path: Path) -> None:
    packed(voices, tmp_path, PackConfig())
    ours = State.read(tmp_path)
    told = {"mel.npy": {"model": {"weights": "1", "layers": 12}}}
    other = {"mel.npy": {"model": {"weights": "2", "layers": 12}}}
    with pytest.raises(
        UserError, match=r"settings \(models\.mel\.npy\.model\.weights was 1 and is"
    ):
        ours.model_copy(update={"about": other}).refuse_other(
            ours.model_copy(update={"about": told}), tmp_path
        )


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/", "-1/2"])
def test_a_part_is_written_as_i_of_n(text: str) -> None:
    with pytest.raises(UserError, match="write i/n"):
        Part.parse(text)


def test_other_settings_in_the_same_folder_are_refused(spoken: tuple[Path, Path]) -> None:
    other = SPOKEN.model_copy(update={"units": UnitsConfig(clusters=60)})
    with pytest.raises(UserError, match=r"units\.clusters was 50 and is now 60"):
        packed(spoken[0], spoken[1], other)


def packed_but_for_shards(source: Path, out: Path, config: PackConfig) -> None:
    """Stop when all chunks of the first block are there."""

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "write_block", stopped)
        with pytest.raises(KeyboardInterrupt):
            packed(source, out, config)


def test_chunks_of_other_settings_are_not_used(voices: Path, tmp_path: Path) -> None:
    packed_but_for_shards(voices, tmp_path, PackConfig(audio=AudioConfig(sample_rate=4000)))
    assert list((tmp_path / ".pack").glob("chunk-*.json"))
    with pytest.raises(UserError, match=r"audio\.sample_rate was 4000 and is now None"):
        packed(voices, tmp_path, PackConfig())
    # A job that began before any chunk was there cannot know: its chunks are told apart.
    (tmp_path / "pack.json").unlink()
    packed(voices, tmp_path, PackConfig())
    packed(voices, tmp_path.parent / "fresh", PackConfig())
    assert tree_bytes(tmp_path) == tree_bytes(tmp_path.parent / "fresh")


def test_chunks_that_a_machine_without_power_tore_are_prepared_again(
    voices: Path, tmp_path: Path
) -> None:
    packed_but_for_shards(voices, tmp_path / "torn", PackConfig())
    (data,) = (tmp_path / "torn" / ".pack").glob("chunk-*.bin")
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    packed(voices, tmp_path / "torn", PackConfig())
    packed(voices, tmp_path / "fresh", PackConfig())
    assert tree_bytes(tmp_path / "torn") == tree_bytes(tmp_path / "fresh")


def test_a_refused_command_does_not_touch_a_job_that_runs(voices: Path, tmp_path: Path) -> None:
    pack(voices, tmp_path / "out", PackConfig(shard_hours=0.001), part=Part(1, 2), workers=0)
    write_wave(tmp_path / "other" / "a.wav", 1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    with pytest.raises(UserError, match="source was corpus and is now other"):
        packed(tmp_path / "other", tmp_path / "out", PackConfig(shard_hours=0.001))
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    work = tmp_path / "out" / ".pack"
    assert {p: t for p, t in after.items() if p != work and p.suffix != ".lock"} == {
        p: t for p, t in before.items() if p != work and p.suffix != ".lock"
    }


def test_one_job_at_a_time_packs_into_a_folder(voices: Path, tmp_path: Path) -> None:
    (tmp_path / ".pack").mkdir()
    with hold(tmp_path / ".pack", Part().name):
        with pytest.raises(UserError, match="another process is packing into"):
            packed(voices, tmp_path, PackConfig())
        assert pack(voices, tmp_path, PackConfig(), part=Part(1, 2), workers=0) is None


def test_tars_of_another_origin_are_not_overwritten(voices: Path, tmp_path: Path) -> None:
    (tmp_path / "shard-000000-00.tar").write_text("important")
    with pytest.raises(UserError, match=r"shard-000000-00\.tar was not packed here"):
        packed(voices, tmp_path, PackConfig())
    assert (tmp_path / "shard-000000-00.tar").read_text() == "important"


def test_a_manifest_beside_the_audio_is_not_passed_over(tmp_path: Path) -> None:
    write_wave(tmp_path / "c" / "a.wav", 2)
    line = {"audio_filepath": "a.wav", "duration": 1.0, "offset": 0.5, "text": "words"}
    (tmp_path / "c" / "manifest.json").write_text(json.dumps(line))
    with pytest.raises(UserError, match=r"holds manifest\.json, of the kind nemo; name that file"):
        packed(tmp_path / "c", tmp_path / "out", PackConfig())
    packed(tmp_path / "c" / "manifest.json", tmp_path / "named", PackConfig())
    assert packed(tmp_path / "c", tmp_path / "alone", PackConfig(), kind="folder").clips == 1


@pytest.mark.parametrize("rate", [24_000, 44_100])
def test_spans_of_an_mp3_are_what_decoding_from_its_start_gives(rate: int, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    sound = wave(20, 0, rate) + 0.05 * chance.standard_normal(20 * rate).astype(np.float32)
    soundfile.write(tmp_path / "a.mp3", sound, rate)
    decoded, _ = soundfile.read(tmp_path / "a.mp3", dtype="float32")
    offsets = [round(offset, 3) for offset in chance.uniform(0, 18, 20)]
    lines = [{"audio_filepath": "a.mp3", "offset": at, "duration": 1.0} for at in offsets]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    packed(tmp_path / "m.jsonl", tmp_path / "out", PackConfig())
    for name, clip in clips(tmp_path / "out").items():
        (tmp_path / "x.flac").write_bytes(clip["flac"])
        heard, _ = soundfile.read(tmp_path / "x.flac", dtype="float32")
        begin = round(int(name.rpartition("_")[2]) / 1000 * rate)
        np.testing.assert_allclose(
            heard, decoded[begin : begin + len(heard)].clip(-1, 1), atol=2 / 32768
        )


def test_parts_with_other_codebooks_are_not_merged(
    spoken: tuple[Path, Path], tmp_path: Path
) -> None:
    config = SPOKEN.model_copy(update={"shard_hours": 0.002})
    for number in (1, 2):
        pack(spoken[0], tmp_path / str(number), config, part=Part(number, 2), workers=0)
    (tmp_path / "2" / "units_mfcc.npz").write_bytes(b"another")
    with pytest.raises(UserError, match="another codebook than"):
        merge(tmp_path / "1", [tmp_path / "2"])
    assert list((tmp_path / "2").glob("*.tar"))


def test_a_receipt_that_is_not_whole_is_made_again(
    many_blocks: tuple[PackConfig, Path], voices: Path, tmp_path: Path
) -> None:
    config, whole = many_blocks
    packed(voices, tmp_path, config)
    first, second, *_ = sorted((tmp_path / ".pack").glob("block-*.json"))
    first.write_bytes(b"")
    second.with_suffix(".arrow").unlink()
    packed(voices, tmp_path, config)
    assert tree_bytes(tmp_path) == tree_bytes(whole)


def test_a_corpus_that_has_changed_is_refused(voices: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_wave(corpus / "a.wav", 1)
    packed(corpus, tmp_path / "out", PackConfig())
    packed(corpus, tmp_path / "out", PackConfig())
    write_wave(corpus / "b.wav", 1, 1)
    with pytest.raises(UserError, match=r"corpus was 1 entries .* and is now 2 entries"):
        packed(corpus, tmp_path / "out", PackConfig())


def test_no_speaker_is_in_both_splits(many_blocks: tuple[PackConfig, Path]) -> None:
    table = Index.open(many_blocks[1]).table.select(["speaker", "split", "seconds"]).to_pylist()
    speakers = {
        split: {row["speaker"] for row in table if row["split"] == split}
        for split in ("train", "validation")
    }
    assert speakers["train"] and speakers["validation"]
    assert not speakers["train"] & speakers["validation"]


def test_a_corpus_without_one_good_clip_says_why_and_leaves_the_folder_usable(
    spoken: tuple[Path, Path], tmp_path: Path
) -> None:
    listed = tmp_path / "bad.list"
    listed.write_text("")
    with pytest.raises(UserError, match="lists no clips"):
        packed(listed, tmp_path / "out", PackConfig())
    listed.write_text("nope.wav|a|EN|hello\n")
    config = PackConfig(features=("phonemes.espeak",))
    with pytest.raises(
        UserError, match=r"not one clip could be packed \(1 x the audio file is not there"
    ):
        packed(listed, tmp_path / "out", config)
    good = spoken[0].read_text(encoding="utf-8").splitlines()[0]
    listed.write_text(f"{spoken[0].parent}/{good}\n", encoding="utf-8-sig")
    assert packed(listed, tmp_path / "out", config).clips == 1


def test_whatever_cannot_be_packed_is_rejected_with_file_reason_and_figure(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_wave(corpus / "good.wav", 1)
    write_wave(corpus / "a" / "same name.wav", 1, 1)
    write_wave(corpus / "b" / "same name.wav", 1, 2)
    write_wave(corpus / "名前" / "ملف.v2.wav", 1, 3)
    (corpus / "empty.wav").write_bytes(b"")
    (corpus / "text.wav").write_bytes(b"not audio")
    whole = write_wave(tmp_path / "cut.wav", 1, 4).read_bytes()
    (corpus / "header.flac").write_bytes(b"fLaC" + whole[:40])
    soundfile.write(corpus / "nothing.wav", np.zeros(0), 8000)
    soundfile.write(corpus / "silence.wav", np.zeros(8000), 8000)
    soundfile.write(corpus / "short.wav", wave(0.05), 8000)
    soundfile.write(corpus / "square.wav", np.sign(wave(1, 5)), 8000)
    nan = wave(1, 6)
    nan[100] = np.nan
    soundfile.write(corpus / "nan.wav", nan, 8000, subtype="FLOAT")
    out = tmp_path / "out"
    report = packed(corpus, out, PackConfig())
    assert set(clips(out)) == {"good", "a/same name", "b/same name", "名前/ملف.v2"}
    found = {Path(reject["file"]).name: reject for reject in rejects(out)}
    assert found.keys() == {
        "empty.wav", "text.wav", "header.flac", "nothing.wav", "silence.wav", "short.wav",
        "square.wav", "nan.wav",
    }  # fmt: skip
    assert all(reject["reason"] for reject in found.values())
    assert "0.05 under" in found["short.wav"]["figure"]
    assert report.rejects.total() == 8
    assert report.rejects["audio cannot be read"] == 3


def test_an_unknown_language_is_a_reject_and_not_a_crash(
    spoken: tuple[Path, Path], tmp_path: Path
) -> None:
    first, second = spoken[0].read_text(encoding="utf-8").splitlines()[:2]
    root = spoken[0].parent
    name, speaker, _, text = second.split("|")
    lines = [f"{root}/{first}", f"{root}/{name}|{speaker}|KLINGON|{text}"]
    (tmp_path / "two.list").write_text("\n".join(lines), encoding="utf-8")
    config = PackConfig(features=("phonemes.espeak",))
    report = packed(tmp_path / "two.list", tmp_path / "out", config)
    assert report.clips == 1
    ((reason, count),) = report.rejects.items()
    assert "KLINGON" in reason and count == 1


def test_text_with_control_characters_is_spoken_without_and_kept_as_it_came(
    tmp_path: Path,
) -> None:
    write_wave(tmp_path / "c" / "a.wav", 2)
    text = "One\ttwo\x00 <b>３</b>"
    (tmp_path / "c" / "x.list").write_text(f"a.wav|s|EN|{text}\n", encoding="utf-8")
    packed(tmp_path / "c", tmp_path / "out", PackConfig(features=("phonemes.espeak",)))
    facts = json.loads(clips(tmp_path / "out")["a"]["json"])
    assert facts["text"] == text
    assert facts["spoken"] == "One two three"


def test_a_long_recording_is_cut_and_its_pieces_say_where_they_were(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    parts = []
    for number in range(12):
        parts += [wave(3 + number % 3, number), np.zeros(6400, np.float32)]
    soundfile.write(tmp_path / "talk.wav", np.concatenate(parts) + 1e-4 * chance.random(), 8000)
    (tmp_path / "corpus" / "ann").mkdir(parents=True)
    (tmp_path / "talk.wav").rename(tmp_path / "corpus" / "ann" / "talk.wav")
    config = PackConfig(cut=CutConfig(max_seconds=12, min_seconds=1))
    packed(tmp_path / "corpus", tmp_path / "out", config)
    facts = [json.loads(clip["json"]) for clip in clips(tmp_path / "out").values()]
    assert len(facts) > 3
    for fact in facts:
        assert fact["recording"] == "ann/talk" and fact["speaker"] == "ann"
        assert fact["name"] == f"ann/talk@{round(fact['start'] * 1000):09d}"
        assert fact["seconds"] <= 12
    assert sum(fact["seconds"] for fact in facts) > 40


def test_a_piece_and_a_file_of_its_name_are_two_clips(tmp_path: Path) -> None:
    write_wave(tmp_path / "c" / "talk.wav", 9)
    write_wave(tmp_path / "c" / "talk@000000000.wav", 2, 1)
    write_wave(tmp_path / "c" / "__meta__" / "a.wav", 2, 2)
    report = packed(tmp_path / "c", tmp_path / "out", PackConfig(cut=CutConfig(max_seconds=5)))
    index = Index.open(tmp_path / "out")
    keys = [index.key(row) for row in range(len(index))]
    assert len(set(keys)) == report.clips >= 4
    assert {"talk@000000000", "talk%40000000000", "%5F_meta__/a"} <= set(keys)
    shards = sorted(str(path) for path in (tmp_path / "out").glob("*.tar"))
    read = [clip["__key__"] for clip in webdataset.WebDataset(shards, shardshuffle=False)]
    assert sorted(read) == sorted(keys)


def test_a_long_recording_with_one_text_is_rejected_where_the_text_is_needed(
    tmp_path: Path,
) -> None:
    write_wave(tmp_path / "c" / "a.wav", 20)
    write_wave(tmp_path / "c" / "b.wav", 3, 1)
    (tmp_path / "c" / "x.list").write_text("a.wav|s|EN|long\nb.wav|s|EN|short\n")
    config = PackConfig(features=("phonemes.espeak",), cut=CutConfig(max_seconds=10))
    report = packed(tmp_path / "c", tmp_path / "out", config)
    assert report.rejects == {"longer than cut.max_seconds with one text": 1}
    assert rejects(tmp_path / "out")[0]["figure"] == "20.0 s"


def test_the_same_sound_under_two_names_is_packed_once(tmp_path: Path) -> None:
    write_wave(tmp_path / "c" / "a.wav", 1)
    soundfile.write(tmp_path / "c" / "b.flac", *soundfile.read(tmp_path / "c" / "a.wav"))
    write_wave(tmp_path / "c" / "other.wav", 1, 1)
    report = packed(tmp_path / "c", tmp_path / "out", PackConfig())
    assert report.clips == 2
    (lost,) = rejects(tmp_path / "out")
    index = Index.open(tmp_path / "out")
    assert {lost["name"], lost["figure"]} == {"a", "b"}
    assert lost["figure"] in {index.key(row) for row in range(2)}
    assert index.shards["rows"].to_pylist() == [2] or sum(index.shards["rows"].to_pylist()) == 2
    kept = PackConfig(duplicates=DuplicatesConfig(exact="keep"))
    assert packed(tmp_path / "c", tmp_path / "kept", kept).clips == 3


def test_the_same_words_at_the_same_length_are_counted_or_left_out(tmp_path: Path) -> None:
    for number, seconds in enumerate([2.0, 2.001, 3.0]):
        write_wave(tmp_path / "c" / f"{number}.wav", seconds, number)
    lines = [f"{number}.wav|s|EN|{'Hello, you!' if number else 'hello you'}" for number in range(3)]
    (tmp_path / "c" / "x.list").write_text("\n".join(lines))
    config = PackConfig(features=("phonemes.espeak",))
    assert packed(tmp_path / "c", tmp_path / "out", config).near == 1
    config = config.model_copy(update={"duplicates": DuplicatesConfig(near="reject")})
    report = packed(tmp_path / "c", tmp_path / "less", config)
    assert (report.clips, report.near) == (2, 0)
    assert report.rejects == {"the same words, speaker and length as another clip": 1}


@pytest.mark.parametrize(
    ("suffix", "subtype", "channels"),
    [
        ("wav", "PCM_U8", 1),
        ("wav", "PCM_16", 2),
        ("wav", "PCM_24", 3),
        ("wav", "PCM_32", 1),
        ("wav", "FLOAT", 2),
        ("wav", "DOUBLE", 1),
        ("flac", "PCM_24", 6),
        ("mp3", None, 2),
        ("ogg", "VORBIS", 2),
        ("opus", "OPUS", 1),
    ],
)
def test_audio_of_any_format_is_stored_as_flac_or_as_it_came(
    suffix: str, subtype: str | None, channels: int, tmp_path: Path
) -> None:
    rate = 48_000
    sound = np.stack([wave(1, 0, rate)] * channels, axis=1)
    (tmp_path / "c").mkdir()
    kind = {"opus": "OGG"}.get(suffix)
    soundfile.write(tmp_path / "c" / f"a.{suffix}", sound, rate, subtype=subtype, format=kind)
    config = PackConfig(audio=AudioConfig(store="flac", sample_rate=16_000))
    packed(tmp_path / "c", tmp_path / "flac", config)
    clip = clips(tmp_path / "flac")["a"]
    (tmp_path / "x.flac").write_bytes(clip["flac"])
    heard, heard_rate = soundfile.read(tmp_path / "x.flac", always_2d=True)
    assert heard_rate == 16_000 and heard.shape[1] == 1
    assert len(heard) / heard_rate == pytest.approx(1, abs=0.05)
    assert np.abs(heard).max() > 0.1

    packed(tmp_path / "c", tmp_path / "same", PackConfig(audio=AudioConfig(store="original")))
    clip = clips(tmp_path / "same")["a"]
    stored = clip["ogg" if suffix == "opus" else suffix]
    assert stored == (tmp_path / "c" / f"a.{suffix}").read_bytes()


def test_quality_limits_reject_and_figures_stay_in_the_index(voices: Path, tmp_path: Path) -> None:
    limits = PackConfig(quality=QualityConfig(min_seconds=3.0))
    report = packed(voices, tmp_path, limits)
    index = Index.open(tmp_path)
    assert report.clips == len(index) == int((1 + np.arange(40) / 10 >= 3).sum())
    assert {"peak", "clipping", "silence", "snr_db", "dc", "bandwidth_hz"} <= set(index.figures)
    assert all(np.isfinite(index.numbers(name)).all() for name in index.figures)


def test_verify_names_damaged_shards_and_clips(
    many_blocks: tuple[PackConfig, Path], voices: Path, tmp_path: Path
) -> None:
    packed(voices, tmp_path, many_blocks[0])
    assert not [damage for shard in verify(tmp_path, 2) for damage in shard.damage]
    index = Index.open(tmp_path)
    flipped, gone, cut = sorted({index.shard(row) for row in range(len(index))})[:3]
    row = next(row for row in range(len(index)) if index.shard(row) == flipped)
    content = bytearray((tmp_path / flipped).read_bytes())
    content[index.numbers("offset")[row] + 5] ^= 1
    (tmp_path / flipped).write_bytes(content)
    (tmp_path / gone).unlink()
    (tmp_path / cut).write_bytes((tmp_path / cut).read_bytes()[:2000])
    found = [damage for shard in verify(tmp_path, 2) for damage in shard.damage]
    assert {damage.shard for damage in found} == {flipped, gone, cut}
    assert [d.key for d in found if d.shard == flipped] == ["", index.key(row)]
    assert [d.what for d in found if d.shard == gone] == ["it is not there"]
    assert "bytes and not" in next(d.what for d in found if d.shard == cut)


def test_how_work_is_cut_makes_no_difference(
    voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "CHUNK_SECONDS", 5.0)
    monkeypatch.setattr(listing, "ROWS_PER_BATCH", 7)
    config = PackConfig(shard_hours=0.001, validation=0.2)
    packed(voices, tmp_path / "small", config)
    monkeypatch.undo()
    packed(voices, tmp_path / "large", config)
    assert tree_bytes(tmp_path / "small") == tree_bytes(tmp_path / "large")


def test_a_source_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no corpus known here"):
        packed(tmp_path, tmp_path / "out", PackConfig())
    with pytest.raises(UserError, match="does not exist"):
        packed(tmp_path / "gone", tmp_path / "out", PackConfig())
    with pytest.raises(UserError, match="--from tape: unknown; there are"):
        packed(tmp_path, tmp_path / "out", PackConfig(), kind="tape")


def test_an_unknown_feature_is_refused_with_the_known_ones(voices: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="features: 'mell' is unknown, did you mean mel"):
        packed(voices, tmp_path / "out", PackConfig(features=("mell",)))


def turn_after_a_while() -> int:
    time.sleep(2)  # the other worker is to get the other piece of work
    return turn()


def test_workers_take_the_gpus_in_turn() -> None:
    with pool_of(2) as pool:
        found = [pool.submit(turn_after_a_while) for _ in range(2)]
        assert {one.result() for one in found} == {0, 1}
