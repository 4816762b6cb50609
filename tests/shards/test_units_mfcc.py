"""MFCC frames at 25 Hz and the units fitted to them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.errors import UserError
from shards.espeak import synthesize
from shards.features.units_mfcc import MfccUnits, mfcc25


def noise(samples: int) -> np.ndarray:
    return (np.random.default_rng(samples).standard_normal(samples) * 0.1).astype(np.float32)


def speech(text: str) -> tuple[np.ndarray, int]:
    audio, rate = synthesize(text, "en-us+f3", words_per_minute=170, pitch=50)
    return (audio / 32_768).astype(np.float32), rate


@pytest.fixture(scope="module")
def features() -> list[np.ndarray]:
    texts = ("Good morning to you all.", "Nobody noticed the broken window.", "We are late again.")
    return [mfcc25(*speech(text)) for text in texts]


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 4.0), st.sampled_from([8_000, 16_000, 22_050, 44_100, 48_000]))
def test_a_clip_has_25_frames_per_second_and_at_least_two(seconds: float, rate: int) -> None:
    frames = mfcc25(noise(int(np.ceil(seconds * rate))), rate)
    assert frames.dtype == np.float32
    assert frames.shape[1] == 39
    assert len(frames) >= 2
    assert abs(len(frames) - int(seconds * 25)) <= 1
    assert np.isfinite(frames).all()


def test_silence_gives_finite_features() -> None:
    assert np.isfinite(mfcc25(np.zeros(16_000, np.float32), 16_000)).all()


def test_the_mean_over_a_clip_is_zero() -> None:
    assert np.abs(mfcc25(noise(16_000), 16_000).mean(0)).max() < 1e-4


def test_loudness_does_not_change_the_features() -> None:
    audio, rate = speech("We are late again.")
    assert np.abs(mfcc25(audio, rate) - mfcc25(audio * np.float32(0.25), rate)).max() < 0.1


@pytest.mark.parametrize("shape", [(1_599,), (2, 16_000), (0,)])
def test_audio_too_short_or_not_mono_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="mono audio of at least"):
        mfcc25(np.zeros(shape, np.float32), 16_000)


def test_units_are_int16_one_per_frame_below_the_number_of_clusters(
    features: list[np.ndarray],
) -> None:
    units = MfccUnits.fit(features, clusters=20, seed=0).assign(features[0])
    assert units.dtype == np.int16
    assert len(units) == len(features[0])
    assert len(np.unique(units)) > 5
    assert 0 <= units.min() <= units.max() < 20


def test_the_assigned_unit_is_the_nearest_centroid(features: list[np.ndarray]) -> None:
    units = MfccUnits.fit(features, clusters=20, seed=0)
    offsets = (features[0] / units.scale)[:, None] - units.centroids
    assert (units.assign(features[0]) == (offsets**2).sum(2).argmin(1)).all()


def test_fitting_twice_gives_the_same_bytes(features: list[np.ndarray]) -> None:
    first, second = (MfccUnits.fit(iter(features), clusters=20, seed=3) for _ in range(2))
    assert first.centroids.tobytes() == second.centroids.tobytes()
    assert first.scale.tobytes() == second.scale.tobytes()


def test_another_seed_gives_other_centroids(features: list[np.ndarray]) -> None:
    first, second = (MfccUnits.fit(features, clusters=20, seed=seed) for seed in (0, 1))
    assert (first.centroids != second.centroids).any()


def test_fewer_frames_than_clusters_is_a_user_error(features: list[np.ndarray]) -> None:
    count = sum(map(len, features))
    with pytest.raises(UserError, match=f"at most {count}"):
        MfccUnits.fit(features, clusters=count + 1, seed=0)
    with pytest.raises(UserError, match="0 frames"):
        MfccUnits.fit([])


def test_as_many_clusters_as_frames_can_be_fitted(features: list[np.ndarray]) -> None:
    count = len(features[0])
    assert MfccUnits.fit(features[:1], clusters=count).centroids.shape == (count, 39)


def test_saved_units_load_as_they_were(features: list[np.ndarray], tmp_path: Path) -> None:
    units = MfccUnits.fit(features, clusters=20, seed=0)
    units.save(tmp_path / "units.npz")
    loaded = MfccUnits.load(tmp_path / "units.npz")
    assert (loaded.assign(features[1]) == units.assign(features[1])).all()
    assert loaded.centroids.dtype == np.float32
    assert [path.name for path in tmp_path.iterdir()] == ["units.npz"]


def test_saving_twice_gives_identical_files(features: list[np.ndarray], tmp_path: Path) -> None:
    units = MfccUnits.fit(features, clusters=20, seed=0)
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for path in paths:
        units.save(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY"])
def test_a_file_that_holds_no_units_is_named_in_the_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"other\.npz"):
        MfccUnits.load(tmp_path / "other.npz")


def test_a_plain_array_or_a_missing_file_is_named_in_the_error(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("array.npy", "missing.npz"):
        with pytest.raises(UserError, match=name):
            MfccUnits.load(tmp_path / name)


def test_a_file_cut_short_is_named_in_the_error(features: list[np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "units.npz"
    MfccUnits.fit(features, clusters=20).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"units\.npz"):
        MfccUnits.load(path)


def test_arrays_of_another_kind_are_named_in_the_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(UserError, match=r"other\.npz"):
        MfccUnits.load(tmp_path / "other.npz")
