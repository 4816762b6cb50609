"""Units of a HuBERT layer, from model folders on disk."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import LAYERS, WIDTH, clip_of, noise, rewrite_config, save_hubert
from transformers import HubertModel, Wav2Vec2FeatureExtractor

from shards.errors import UserError
from shards.features.feature import FittedFeature
from shards.features.hubert import hidden_states, hubert_folder, whole_model
from shards.features.kmeans import sampled
from shards.features.registry import features_named
from shards.pack.config import PackConfig


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, HubertModel]:
    folder = tmp_path_factory.mktemp("base")
    return folder, save_hubert(folder)


@pytest.fixture
def copy(base: tuple[Path, HubertModel], tmp_path: Path) -> Path:
    """The base model's folder, to be damaged; its name holds what names may hold."""
    return shutil.copytree(base[0], tmp_path / "模型 β")


def units_of(folder: Path, out: Path, *, layer: int = 2, clusters: int = 8) -> FittedFeature:
    config = PackConfig.model_validate(
        {"hubert": {"model": str(folder), "layer": layer}, "units": {"clusters": clusters}}
    )
    (feature,) = features_named(["units.hubert"], config, out)
    assert isinstance(feature, FittedFeature)
    return feature


def states_of(model: HubertModel, samples: np.ndarray, layer: int) -> np.ndarray:
    """What the layer itself gives, before anything that stands after it."""
    found: list[torch.Tensor] = []
    hook = model.encoder.layers[layer - 1].register_forward_hook(
        lambda _module, _inputs, output: found.append(
            output[0] if isinstance(output, tuple) else output
        )
    )
    with torch.inference_mode():
        model(torch.from_numpy(samples)[None])
    hook.remove()
    return found[0].reshape(-1, WIDTH).numpy()


@pytest.mark.parametrize("layer", [1, 3, LAYERS])
@pytest.mark.parametrize("is_large", [False, True])
def test_frames_are_the_output_of_the_layer(is_large: bool, layer: int, tmp_path: Path) -> None:
    model = save_hubert(tmp_path / "model", is_large=is_large)
    frames = units_of(tmp_path / "model", tmp_path, layer=layer).frames(noise())
    assert frames.shape == (49, WIDTH) and frames.dtype == np.float32
    np.testing.assert_allclose(frames, states_of(model, noise().samples, layer), atol=1e-5)


def test_audio_of_any_rate_is_brought_to_16_khz(
    base: tuple[Path, HubertModel], tmp_path: Path
) -> None:
    feature = units_of(base[0], tmp_path)
    audio = noise(sample_rate=44_100)
    assert np.array_equal(feature.frames(audio), feature.frames(audio.at(16_000)))


@pytest.mark.parametrize("is_normalised", [True, False])
def test_audio_is_normalised_where_the_model_says_so(copy: Path, is_normalised: bool) -> None:
    extractor = Wav2Vec2FeatureExtractor(do_normalize=is_normalised)
    extractor.save_pretrained(copy)
    given = extractor(noise().samples, sampling_rate=16_000).input_values[0]
    model = HubertModel.from_pretrained(copy).eval()
    frames = units_of(copy, copy, layer=LAYERS).frames(noise())
    np.testing.assert_allclose(frames, states_of(model, given, LAYERS), atol=1e-4)


def test_units_are_the_nearest_centroids_of_the_saved_codebook(
    base: tuple[Path, HubertModel], tmp_path: Path
) -> None:
    feature = units_of(base[0], tmp_path)
    feature.fit([feature.frames(noise(seed=seed)) for seed in range(4)])
    units = pickle.loads(pickle.dumps(feature)).compute(clip_of(noise(seed=9)))
    centroids = np.load(tmp_path / "units_hubert.npz")["centroids"]
    offsets = feature.frames(noise(seed=9))[:, None] - centroids
    assert units.dtype == np.int16
    assert (units == (offsets**2).sum(2).argmin(1)).all()
    assert len(np.unique(units)) > 1


def test_fitting_twice_gives_the_same_bytes(base: tuple[Path, HubertModel], tmp_path: Path) -> None:
    feature = units_of(base[0], tmp_path)
    frames = [feature.frames(noise(seed=seed)) for seed in range(3)]
    feature.fit(frames)
    first = feature.codebook.read_bytes()
    feature.fit(frames)
    assert feature.codebook.read_bytes() == first


def test_too_few_frames_are_a_user_error(base: tuple[Path, HubertModel], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"units.clusters: 8 clusters cannot be fitted to 3 frames"):
        units_of(base[0], tmp_path).fit([np.zeros((3, WIDTH), np.float32)])


def test_a_codebook_of_another_layer_or_model_is_refused(
    base: tuple[Path, HubertModel], tmp_path: Path
) -> None:
    feature = units_of(base[0], tmp_path)
    feature.fit([feature.frames(noise())])
    assert units_of(base[0], tmp_path) == feature
    with pytest.raises(
        UserError, match=r"fitted to layer 2 of .* and cannot name units of layer 3"
    ):
        units_of(base[0], tmp_path, layer=3)
    save_hubert(tmp_path / "other", seed=5)
    with pytest.raises(UserError, match=r"units_hubert\.npz was fitted to layer 2"):
        units_of(tmp_path / "other", tmp_path)


def test_the_index_learns_rate_layer_and_weights(
    base: tuple[Path, HubertModel], tmp_path: Path
) -> None:
    about = units_of(base[0], tmp_path).about()
    assert json.loads(json.dumps(about)) == about
    assert (about["per_second"], about["layer"], about["codebook"]) == (50, 2, "units_hubert.npz")
    assert about["model"]["name"] == base[0].name


def test_a_model_in_an_older_file_is_read_alike(base: tuple[Path, HubertModel], copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    names = {"parametrizations.weight.original0": "weight_g", "masked_spec_embed": "unused"}
    names["parametrizations.weight.original1"] = "weight_v"
    older = {}
    for key, value in base[1].state_dict().items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)  # noqa: PLW2901
        older[f"hubert.{key}"] = value.half()
    torch.save(older, copy / "pytorch_model.bin")
    model = whole_model(hubert_folder("hubert.model", str(copy), "a model"))
    with torch.inference_mode():
        expected = base[1](torch.from_numpy(noise().samples)[None]).last_hidden_state[0].numpy()
    assert model.dtype == torch.float32
    np.testing.assert_allclose(hidden_states(model, noise().samples), expected, atol=0.02)


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_audio_too_short_is_refused_without_figures(
    base: tuple[Path, HubertModel], tmp_path: Path, seconds: float
) -> None:
    with pytest.raises(ValueError, match=r"^audio too short to compute features from$"):
        units_of(base[0], tmp_path).frames(noise(seconds))


def test_a_tenth_of_a_second_has_frames(base: tuple[Path, HubertModel], tmp_path: Path) -> None:
    assert len(units_of(base[0], tmp_path).frames(noise(0.1, sample_rate=22_050))) > 1


def test_a_clip_without_audio_is_refused(base: tuple[Path, HubertModel], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no audio"):
        units_of(base[0], tmp_path).compute(clip_of())


def test_two_kinds_of_units_are_refused(base: tuple[Path, HubertModel], tmp_path: Path) -> None:
    config = PackConfig.model_validate({"hubert": {"model": str(base[0]), "layer": 2}})
    with pytest.raises(UserError, match=r"units\.mfcc and units\.hubert both write semantic\.npy"):
        features_named(["units.mfcc", "mel", "units.hubert"], config, tmp_path)


def test_a_layer_that_the_model_lacks_is_a_user_error(
    base: tuple[Path, HubertModel], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"hubert\.layer: 5 is more than the 4 layers"):
        units_of(base[0], tmp_path, layer=5)


@pytest.mark.parametrize("lost", ["config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_says_what_it_should_hold(copy: Path, lost: str) -> None:
    (copy / lost).unlink()
    wanted = "config.json, model.safetensors or pytorch_model.bin, and preprocessor_config.json"
    with pytest.raises(UserError, match=rf"hubert\.model: .*模型 β has no .*{wanted}"):
        units_of(copy, copy)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"model_type": "wavlm"}', "\0"])
def test_a_config_of_something_else_is_a_user_error(copy: Path, content: str) -> None:
    (copy / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json is of model type .*, not 'hubert'"):
        units_of(copy, copy)


@pytest.mark.parametrize("key", ["num_hidden_layers", "conv_stride"])
def test_a_config_without_its_numbers_is_a_user_error(copy: Path, key: str) -> None:
    rewrite_config(copy, **{key: None})
    with pytest.raises(UserError, match=f"'{key}'"):
        units_of(copy, copy)


def test_a_missing_folder_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is no folder"):
        units_of(tmp_path / "nowhere", tmp_path)


def test_weights_cut_short_are_a_user_error(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"hubert\.model: .* cannot be loaded"):
        units_of(copy, copy).frames(noise())


def test_weights_of_a_smaller_model_are_a_user_error(copy: Path) -> None:
    rewrite_config(copy, num_hidden_layers=LAYERS + 1)
    with pytest.raises(UserError, match=r"cannot be loaded \(its weights lack encoder\.layers\.4"):
        units_of(copy, copy, layer=LAYERS + 1).frames(noise())


def test_frames_are_thinned_out_evenly_and_repeatably() -> None:
    frames = [np.full((n, 1), n, np.float32) for n in (0, 600, 3000, 0, 400)]
    thin = sampled(frames, 400, seed=1)
    counts = [len(array) for array in thin]
    assert sum(counts) == 400 and counts[0] == counts[3] == 0
    assert [abs(counts[i] - share) < 30 for i, share in ((1, 60), (2, 300), (4, 40))] == [True] * 3
    assert all((array == n).all() for array, n in zip(thin, (0, 600, 3000, 0, 400), strict=True))
    again = sampled(frames, 400, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(thin, again, strict=True))
    assert sampled(frames, 4000, seed=1)[2] is frames[2]
