"""MFCC frames at 25 Hz and the units fitted to them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.audio import Audio
from shards.clip import Clip
from shards.errors import UserError
from shards.espeak import synthesize
from shards.features.kmeans import Codebook
from shards.features.units_mfcc import MfccUnits, mfcc25

FILE = "units_mfcc.npz"


def noise(samples: int, rate: int) -> Audio:
    signal = np.random.default_rng(samples).standard_normal(samples) * 0.1
    return Audio(signal.astype(np.float32), rate)


def speech(text: str) -> Audio:
    audio, rate = synthesize(text, "en-us+f3", words_per_minute=170, pitch=50)
    return Audio((audio / 32_768).astype(np.float32), rate)


def clip_of(audio: Audio) -> Clip:
    return Clip("clip", "", "", "", audio, {})


@pytest.fixture(scope="module")
def features() -> list[np.ndarray]:
    texts = ("Good morning to you all.", "Nobody noticed the broken window.", "We are late again.")
    return [mfcc25(speech(text)) for text in texts]


def fitted(
    features: list[np.ndarray], folder: Path, *, seed: int = 0
) -> tuple[MfccUnits, Codebook]:
    units = MfccUnits(folder / FILE, clusters=20, seed=seed)
    units.fit(features)
    return units, Codebook.load(units.codebook, "MFCCs at 25 Hz")


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 4.0), st.sampled_from([8_000, 16_000, 22_050, 44_100, 48_000]))
def test_a_clip_has_25_frames_per_second_and_at_least_two(seconds: float, rate: int) -> None:
    frames = mfcc25(noise(int(np.ceil(seconds * rate)), rate))
    assert frames.dtype == np.float32
    assert frames.shape[1] == 39
    assert len(frames) >= 2
    assert abs(len(frames) - int(seconds * 25)) <= 1
    assert np.isfinite(frames).all()


def test_silence_gives_finite_features() -> None:
    assert np.isfinite(mfcc25(Audio(np.zeros(16_000, np.float32), 16_000))).all()


def test_the_mean_over_a_clip_is_zero() -> None:
    assert np.abs(mfcc25(noise(16_000, 16_000)).mean(0)).max() < 1e-4


def test_loudness_does_not_change_the_features() -> None:
    audio = speech("We are late again.")
    softer = Audio(audio.samples * np.float32(0.25), audio.sample_rate)
    assert np.abs(mfcc25(audio) - mfcc25(softer)).max() < 0.1


@pytest.mark.parametrize("samples", [1_599, 1, 0])
def test_audio_too_short_is_refused_without_figures(samples: int) -> None:
    with pytest.raises(ValueError, match=r"^audio too short to compute features from$"):
        mfcc25(Audio(np.zeros(samples, np.float32), 16_000))


def test_units_are_int16_one_per_frame_below_the_number_of_clusters(
    features: list[np.ndarray], tmp_path: Path
) -> None:
    units, _ = fitted(features, tmp_path)
    found = units.compute(clip_of(speech("Good morning to you all.")))
    assert found.dtype == np.int16
    assert len(found) == len(features[0])
    assert len(np.unique(found)) > 5
    assert 0 <= found.min() <= found.max() < 20


def test_the_assigned_unit_is_the_nearest_centroid(
    features: list[np.ndarray], tmp_path: Path
) -> None:
    _, codebook = fitted(features, tmp_path)
    offsets = (features[0] / codebook.scale)[:, None] - codebook.centroids
    assert (codebook.assign(features[0]) == (offsets**2).sum(2).argmin(1)).all()


def test_every_dimension_counts_alike(features: list[np.ndarray], tmp_path: Path) -> None:
    _, codebook = fitted(features, tmp_path)
    np.testing.assert_allclose(codebook.scale, np.concatenate(features).std(0), rtol=1e-5)


def test_fitting_twice_gives_the_same_file(features: list[np.ndarray], tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        fitted(features, folder, seed=3)
    first, second = ((folder / FILE).read_bytes() for folder in folders)
    assert first == second
    assert [path.name for path in folders[0].iterdir()] == [FILE]


def test_how_frames_lie_in_memory_does_not_show(features: list[np.ndarray], tmp_path: Path) -> None:
    _, first = fitted([np.asfortranarray(frames) for frames in features], tmp_path)
    _, second = fitted([np.ascontiguousarray(frames) for frames in features], tmp_path)
    assert first.scale.tobytes() == second.scale.tobytes()
    assert first.centroids.tobytes() == second.centroids.tobytes()


def test_another_seed_gives_other_centroids(features: list[np.ndarray], tmp_path: Path) -> None:
    first, second = (fitted(features, tmp_path, seed=seed)[1] for seed in (0, 1))
    assert (first.centroids != second.centroids).any()


def test_fewer_frames_than_clusters_is_a_user_error(
    features: list[np.ndarray], tmp_path: Path
) -> None:
    count = sum(map(len, features))
    with pytest.raises(UserError, match=f"at most {count}"):
        MfccUnits(tmp_path / FILE, clusters=count + 1, seed=0).fit(features)
    with pytest.raises(UserError, match="0 frames"):
        MfccUnits(tmp_path / FILE, clusters=2, seed=0).fit([])
    assert list(tmp_path.iterdir()) == []


def test_as_many_clusters_as_frames_can_be_fitted(
    features: list[np.ndarray], tmp_path: Path
) -> None:
    count = len(features[0])
    MfccUnits(tmp_path / FILE, clusters=count, seed=0).fit(features[:1])
    assert np.load(tmp_path / FILE)["centroids"].shape == (count, 39)


def test_a_saved_codebook_loads_as_it_was(features: list[np.ndarray], tmp_path: Path) -> None:
    codebook = Codebook(np.eye(3, 39, dtype=np.float32), np.ones(39, np.float32), "origin")
    codebook.save(tmp_path / FILE)
    loaded = Codebook.load(tmp_path / FILE, "origin")
    assert (loaded.assign(features[1]) == codebook.assign(features[1])).all()
    assert loaded.centroids.dtype == loaded.scale.dtype == np.float32


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY"])
def test_a_file_that_holds_no_units_is_named_in_the_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"other\.npz holds no codebook"):
        Codebook.load(tmp_path / "other.npz", "origin")


def test_a_plain_array_or_a_missing_file_is_named_in_the_error(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("array.npy", "missing.npz"):
        with pytest.raises(UserError, match=name):
            Codebook.load(tmp_path / name, "origin")


def test_a_file_cut_short_is_named_in_the_error(features: list[np.ndarray], tmp_path: Path) -> None:
    units, _ = fitted(features, tmp_path)
    units.codebook.write_bytes(units.codebook.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"units_mfcc\.npz holds no codebook"):
        Codebook.load(units.codebook, "MFCCs at 25 Hz")


def test_arrays_of_another_kind_are_named_in_the_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(UserError, match=r"other\.npz"):
        Codebook.load(tmp_path / "other.npz", "origin")


def test_units_of_other_frames_are_refused(features: list[np.ndarray], tmp_path: Path) -> None:
    units, _ = fitted(features, tmp_path)
    with pytest.raises(UserError, match="fitted to MFCCs at 25 Hz and cannot name units of other"):
        Codebook.load(units.codebook, "other")
