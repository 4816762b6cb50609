from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import webdataset

from shards.audio import Audio
from shards.collate import Batch
from shards.dataset import DataConfig, SourceConfig, open_plan, refuse_damaged_shards
from shards.errors import UserError
from shards.fields import Field, refuse_shorter, require
from shards.index import Index
from shards.index_writer import write_index
from shards.pack.encode import flac
from shards.plan import BatchConfig, Origin, Plan
from shards.stream import read_batch, stream
from shards.tar_index import scan_shard

FIELDS = (
    Field("phonemes.npy", pad=0, dtype="int64"),
    Field("semantic.npy", pad=1024, dtype="int64"),
    Field("bert.npy", pad=0, dtype="float32", required=False),
)
BATCH = BatchConfig(seconds=288, micro_seconds=12, buckets=4)


def plan_over(folder: Path, **options: object) -> tuple[Plan, DataConfig]:
    config = DataConfig(path=str(folder), **{"workers": 0, **options})  # type: ignore[arg-type]
    return open_plan(config, BATCH, seed=0), config


def keys(
    folder: Path, steps: range, *, rank: int = 0, world_size: int = 1, workers: int = 0
) -> list[tuple[int, int, tuple[str, ...]]]:
    plan, config = plan_over(folder, workers=workers)
    batches = stream(plan, FIELDS, steps, rank=rank, world_size=world_size, config=config)
    return [(batch.step, batch.index, batch.keys) for batch in batches]


def planned_keys(folder: Path, steps: range) -> list[tuple[int, int, tuple[str, ...]]]:
    plan, _ = plan_over(folder)
    return [
        (
            micro.step,
            micro.index,
            tuple(plan.corpus.key(int(r)) for r in micro.rows if micro.counted),
        )
        for step in plan.steps(steps.start, steps.stop)
        for micro in plan.share(step)
    ]


@pytest.mark.parametrize("workers", [0, 1, 2, 3, 5, 8])
def test_the_stream_follows_the_plan_for_any_number_of_workers(
    token_shards: Path, workers: int
) -> None:
    assert keys(token_shards, range(4), workers=workers) == planned_keys(token_shards, range(4))


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 6, 8])
def test_ranks_of_any_number_together_read_what_the_plan_says(
    token_shards: Path, world_size: int
) -> None:
    read = [
        entry
        for rank in range(world_size)
        for entry in keys(token_shards, range(3), rank=rank, world_size=world_size)
    ]
    assert sorted(read) == planned_keys(token_shards, range(3))


def test_a_stop_at_any_step_and_other_ranks_and_workers_after_it_change_nothing(
    token_shards: Path,
) -> None:
    whole = planned_keys(token_shards, range(5))
    for stop, (ranks, workers), (ranks_then, workers_then) in (
        (1, (1, 0), (2, 1)),
        (2, (4, 1), (1, 2)),
        (4, (3, 0), (8, 0)),
    ):
        parts = [(range(stop), ranks, workers), (range(stop, 5), ranks_then, workers_then)]
        read = [
            entry
            for steps, world_size, count in parts
            for rank in range(world_size)
            for entry in keys(token_shards, steps, rank=rank, world_size=world_size, workers=count)
        ]
        assert sorted(read) == whole


def test_a_batch_is_padded_on_the_right_with_the_fields_value(token_shards: Path) -> None:
    plan, config = plan_over(token_shards)
    batch = next(stream(plan, FIELDS, range(1), rank=0, world_size=1, config=config))
    semantic, lengths = batch.arrays["semantic"], batch.lengths["semantic"]
    assert semantic.dtype == torch.int64
    assert semantic.shape == (len(batch.keys), int(lengths.max()))
    beyond = torch.arange(semantic.shape[1])[None] >= lengths[:, None]
    assert torch.all((semantic == 1024) == beyond)
    assert "bert" not in batch.arrays


def test_users_can_put_webdataset_stages_into_the_stream(token_shards: Path) -> None:
    plan, config = plan_over(token_shards)

    def shift(sample: dict[str, object]) -> dict[str, object]:
        return {**sample, "phonemes.npy": sample["phonemes.npy"] * 0 + 7}  # type: ignore[operator]

    batch = next(
        stream(
            plan,
            FIELDS,
            range(1),
            rank=0,
            world_size=1,
            config=config,
            stages=[webdataset.map(shift)],
        )
    )
    assert set(batch.arrays["phonemes"].unique().tolist()) <= {0, 7}


def test_several_sources_are_one_stream(token_shards: Path, tmp_path: Path) -> None:
    shutil.copytree(token_shards, tmp_path / "old")
    sources = (
        SourceConfig(path=str(token_shards), name="new"),
        SourceConfig(path=f"{tmp_path}/old/"),
    )
    config = DataConfig(sources=sources, workers=0)
    plan = open_plan(config, BATCH, seed=0)
    steps = range(plan.step_at(1))
    batches = list(stream(plan, FIELDS, steps, rank=0, world_size=1, config=config))
    read = sorted(key for batch in batches for key in batch.keys)
    own = Index.open(token_shards)
    assert read == sorted(f"{name}/{own.key(n)}" for name in ("new", "old") for n in range(120))
    for batch in batches:
        places = {key: n for n, key in enumerate(batch.keys)}
        for key in batch.keys:
            other = ("old" if key.startswith("new") else "new") + key[3:]
            if other in places:  # copies of one clip
                assert torch.equal(
                    batch.arrays["semantic"][places[key]], batch.arrays["semantic"][places[other]]
                )


def test_two_sources_of_one_name_are_refused(token_shards: Path) -> None:
    twice = (SourceConfig(path=str(token_shards)), SourceConfig(path=str(token_shards)))
    with pytest.raises(UserError, match="two are called shards; give each a name"):
        open_plan(DataConfig(sources=twice), BATCH, 0)


def test_a_missing_folder_an_empty_index_and_rubbish_are_one_sentence(
    token_shards: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="gone is not there; pack a folder"):
        plan_over(tmp_path / "gone")
    with pytest.raises(UserError, match=r"holds no index\.arrow"):
        plan_over(tmp_path)
    (tmp_path / "index.arrow").write_bytes(b"rubbish")
    with pytest.raises(UserError, match="is no index of ours"):
        plan_over(tmp_path)
    write_index(tmp_path, [], [], {})
    with pytest.raises(UserError, match="lists no clips"):
        plan_over(tmp_path)


def test_a_lost_shard_and_a_cut_one_are_refused_before_training(
    token_shards: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(token_shards, tmp_path / "shards")
    shard = folder / "shard-000000-01.tar"
    shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"-01\.tar has 5000 bytes and not the \d+ that"):
        refuse_damaged_shards(plan_over(folder)[0].corpus)
    shard.unlink()
    with pytest.raises(UserError, match=r"-01\.tar is in the index but not in the folder"):
        refuse_damaged_shards(plan_over(folder)[0].corpus)


@pytest.fixture
def damaged(token_shards: Path, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Shards of which one is cut, one is gone and one has a flipped byte; lost clips by key."""
    folder = shutil.copytree(token_shards, tmp_path / "damaged")
    index = Index.open(token_shards)
    cut, gone, flipped = (f"shard-000000-{n:02d}.tar" for n in (1, 2, 3))
    (folder / cut).write_bytes((folder / cut).read_bytes()[:20_000])
    (folder / gone).unlink()
    row = next(n for n in range(len(index)) if index.shard(n) == flipped)
    members = index.members
    place = int(members.starts.view[row + 1]) - 1
    content = bytearray((folder / flipped).read_bytes())
    content[int(members.offset.view[place]) + int(members.size.view[place]) - 1] ^= 1
    (folder / flipped).write_bytes(bytes(content))
    lost = {index.key(row): "is not what was packed: its checksum differs"}
    for n in range(len(index)):
        wanted = [
            m
            for m in range(members.starts.view[n], members.starts.view[n + 1])
            if members.names[members.name.view[m]] != "json"
        ]
        end = int(members.offset.view[wanted[-1]] + members.size.view[wanted[-1]])
        if index.shard(n) == gone:
            lost[index.key(n)] = "is not in"
        elif index.shard(n) == cut and end > 20_000:
            lost[index.key(n)] = "ends at byte 20000"
    return folder, lost


def read_epoch(folder: Path, **options: object) -> Iterator[Batch]:
    plan, config = plan_over(folder, **options)
    return stream(plan, FIELDS, range(plan.step_at(1)), rank=0, world_size=1, config=config)


@pytest.mark.parametrize("workers", [0, 2])
def test_clips_that_cannot_be_read_are_left_out_and_named(
    damaged: tuple[Path, dict[str, str]], workers: int
) -> None:
    folder, lost = damaged
    batches = list(read_epoch(folder, on_error="skip", workers=workers))
    failures = [failure for batch in batches for failure in batch.failures]
    found = {failure.key: failure for failure in failures}
    assert sorted(failure.key for failure in failures) == sorted(lost)
    assert all(lost[key] in failure.reason for key, failure in found.items())
    index = Index.open(folder)
    whole = {index.key(row) for row in range(len(index))}
    assert sorted(key for batch in batches for key in batch.keys) == sorted(whole - lost.keys())
    for batch in batches:
        assert len(batch.rows) == len(batch.keys)
        assert batch.weight == (1.0 if batch.keys else 0.0)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_clip_that_cannot_be_read_stops_the_run_in_one_sentence(
    damaged: tuple[Path, dict[str, str]], workers: int
) -> None:
    with pytest.raises(UserError, match=r"^data: clip \S+ of shard-\S+ cannot be read \(.*=skip$"):
        list(read_epoch(damaged[0], workers=workers))


def test_a_micro_batch_of_which_nothing_can_be_read_is_a_stand_in_without_weight(
    token_shards: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(token_shards, tmp_path / "some")
    shards = sorted(folder.glob("*.tar"))
    for shard in shards[: len(shards) // 2]:
        shard.unlink()
    batches = list(read_epoch(folder, on_error="skip"))
    empty = [batch for batch in batches if not batch.keys and batch.failures]
    assert empty and all(batch.weight == 0 for batch in empty)
    assert all(len(batch.arrays["semantic"]) == 1 for batch in empty)


def test_a_hundred_unreadable_clips_in_a_row_stop_the_run(
    token_shards: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(token_shards, tmp_path / "none")
    for shard in folder.glob("*.tar"):
        shard.unlink()
    with pytest.raises(UserError, match="100 clips in a row cannot be read, the last one: clip"):
        list(read_epoch(folder, on_error="skip"))


@pytest.fixture(scope="module")
def audio_shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """Six FLAC clips of 22,050 Hz and a WAV in stereo of 44,100 Hz, and their samples."""
    folder = tmp_path_factory.mktemp("audio")
    chance = np.random.default_rng(0)
    waves = {
        f"f{n}": chance.uniform(-0.5, 0.5, 4000 + 500 * n).astype(np.float32) for n in range(6)
    }
    with webdataset.TarWriter(str(folder / "a.tar")) as tar:
        for key, wave in waves.items():
            data = io.BytesIO()
            soundfile.write(data, wave, 22_050, format="FLAC", subtype="PCM_24")
            tar.write(
                {"__key__": key, "flac": data.getvalue(), "json": json.dumps({"key": key}).encode()}
            )
        stereo = np.stack([np.full(8820, 0.25), np.full(8820, 0.75)], axis=1).astype(np.float32)
        data = io.BytesIO()
        soundfile.write(data, stereo, 44_100, format="WAV", subtype="FLOAT")
        tar.write({"__key__": "w", "wav": data.getvalue()})
    waves["w"] = np.full(4410, 0.5, dtype=np.float32)
    scanned = scan_shard(folder, "a.tar")
    write_index(folder, scanned.rows, [scanned.shard], {})
    return folder, waves


def test_audio_of_any_format_arrives_mono_at_the_fields_rate(
    audio_shards: tuple[Path, dict[str, np.ndarray]],
) -> None:
    folder, waves = audio_shards
    config = DataConfig(path=str(folder), workers=1)
    plan = open_plan(config, BatchConfig(seconds=1, micro_seconds=1), 0)
    field = Field("audio", pad=0, dtype="float32", sample_rate=22_050)
    seen = set()
    for batch in stream(
        plan, (field,), range(plan.step_at(1)), rank=0, world_size=1, config=config
    ):
        for key, wave, length in zip(
            batch.keys, batch.arrays["audio"], batch.lengths["audio"], strict=True
        ):
            assert length == len(waves[key])
            # resampling rings at both ends
            inner = slice(200, int(length) - 200)
            assert np.abs(wave[:length].numpy() - waves[key])[inner].max() < 1e-3
            assert not wave[length:].any()
            seen.add(key)
    assert seen == waves.keys()


def test_users_bring_their_own_decoders(token_shards: Path) -> None:
    plan, config = plan_over(token_shards)
    batch = next(
        stream(
            plan,
            (Field("json", pad=-1, dtype="float32"),),
            range(1),
            rank=0,
            world_size=1,
            config=config,
            decoders={"json": lambda data: np.array([json.loads(data)["seconds"]])},
        )
    )
    assert batch.arrays["json"][:, 0].tolist() == pytest.approx(
        plan.corpus.seconds(batch.rows).tolist(), abs=1e-3
    )


def test_a_bad_clip_in_a_short_last_step_is_missed_once_though_it_stands_in_for_others(
    token_shards: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(token_shards, tmp_path / "short")
    batch = BatchConfig(seconds=12 * 121, micro_seconds=12, buckets=1)
    config = DataConfig(path=str(folder), workers=0, on_error="skip")
    plan = open_plan(config, batch, seed=0)
    assert plan.step_at(1) == 1  # 120 clips for 121 micro-batches
    first = int(plan.micro_batch(plan.step(0), 120).rows[0])
    members = plan.corpus.sources[0].index.members
    place = int(members.starts.view[first + 1]) - 1
    shard = folder / plan.corpus.sources[0].index.shard(first)
    content = bytearray(shard.read_bytes())
    content[int(members.offset.view[place]) + 130] ^= 1
    shard.write_bytes(bytes(content))
    batches = list(stream(plan, FIELDS, range(1), rank=0, world_size=1, config=config))
    assert len(batches) == 121
    assert [f.key for batch in batches for f in batch.failures] == [plan.corpus.key(first)]
    assert sum(len(batch.keys) for batch in batches) == 119


def test_a_stand_in_is_found_after_a_restarted_epoch(token_shards: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(token_shards, tmp_path / "holes")
    plan, config = plan_over(folder, on_error="skip")
    plan = plan.begun_at(Origin(step=500, epoch=7))
    costliest = plan.costliest()[-1]
    for row in costliest.rows.tolist():
        (folder / plan.corpus.sources[0].index.shard(row)).unlink(missing_ok=True)
    batch = read_batch(plan, FIELDS, costliest, config)
    assert batch.weight == 0 and len(batch.arrays["semantic"]) == 1


def test_clips_without_a_needed_member_can_be_left_out_with_a_filter(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as tar:
        for number in range(6):
            about = json.dumps({"seconds": 1.0}).encode()
            clip = {"__key__": f"c{number}", "json": about}
            if number != 4:
                clip["semantic.npy"] = chance.integers(0, 9, 20 + number)
            if number < 5:
                clip["flac"] = flac(Audio(np.zeros(16_000, np.float32), 16_000))
            tar.write(clip)
    scanned = scan_shard(tmp_path, "a.tar")
    write_index(tmp_path, scanned.rows, [scanned.shard], {})
    needed = (Field("semantic.npy", pad=0, dtype="int64"),)
    batch = BatchConfig(seconds=2, micro_seconds=2)

    def plan(filter_: str | None) -> Plan:
        return open_plan(DataConfig(path=str(tmp_path), filter=filter_), batch, 0)

    with pytest.raises(UserError, match=r"clip c4 in .* has no semantic\.npy, which model m needs"):
        require(plan(None).census, needed, "m")
    require(plan("semantic > 0").census, needed, "m")

    audio = (Field("audio", pad=0, dtype="float32"),)
    with pytest.raises(UserError, match=r"clip c5 in .* has no audio, .* with audio\.store=flac"):
        require(plan(None).census, audio, "m")
    require(plan("semantic < 25").census, audio, "m")
    refuse_shorter(plan(None).census, 1.0, "m")
    with pytest.raises(UserError, match=r"c0 .* lasts 1\.000 s, .* set data\.min_seconds=1\.5"):
        refuse_shorter(plan(None).census, 1.5, "m")

    whole = plan("semantic > 0")
    odd = (Field("semantic.npy", 0, "int64", shape=(("model.tokens", 20),)),)
    config = DataConfig(path=str(tmp_path), workers=0)
    wrong = r"semantic\.npy has the shape 2[1-5] where model\.tokens=20 is expected"
    with pytest.raises(UserError, match=wrong):
        list(stream(whole, odd, range(3), rank=0, world_size=1, config=config))
