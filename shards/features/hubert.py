"""HuBERT models as a user gives them: hidden states of 16 kHz audio."""

from __future__ import annotations

from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import UserError
from shards.features.model_folder import ModelFolder, Wanted, best_device, load_model

if TYPE_CHECKING:
    import torch
    from transformers import HubertModel

SAMPLE_RATE = 16_000
PREPROCESSOR = "preprocessor_config.json"


def hubert_folder(option: str, folder: str | None, what: str) -> ModelFolder:
    """The folder that ``option`` names; UserError if it holds no transformers HuBERT model."""
    files = f"{PREPROCESSOR} where the model has one"
    return ModelFolder.opened(option, folder, Wanted(what, "hubert", files))


def frames_per_second(folder: ModelFolder) -> float:
    """The rate of the hidden states: 50 for the strides of all published models."""
    strides = folder.config.get("conv_stride")
    if not isinstance(strides, list) or not strides:
        raise UserError(
            f"{folder.option}: the config.json in {folder.path} has no list 'conv_stride'; "
            "give the model's own config.json"
        )
    return SAMPLE_RATE / prod(strides)


@cache
def whole_model(folder: ModelFolder) -> HubertModel:
    """The model as it is, loaded once per process."""
    from transformers import HubertModel

    loaded: HubertModel = load_model(HubertModel, folder, best_device())
    return loaded


@cache
def model_up_to(folder: ModelFolder, layer: int) -> HubertModel:
    """A model whose last hidden states are the output of transformer layer ``layer``, from 1.

    The layers above are not loaded: with layer 9 of 12 they would be a quarter of the work.
    """
    import torch
    from transformers import HubertModel

    loaded: HubertModel = load_model(HubertModel, folder, best_device(), num_hidden_layers=layer)
    if loaded.config.do_stable_layer_norm:
        # Large models normalise after the last layer, which is not part of any layer's output.
        loaded.encoder.register_module("layer_norm", torch.nn.Identity())
    return loaded


def normalised(samples: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit variance, as transformers' Wav2Vec2FeatureExtractor does it."""
    return (samples - samples.mean()) / (samples.var(unbiased=False) + 1e-7).sqrt()


def hidden_states(model: HubertModel, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The model's last hidden states: 16 kHz [samples] -> [frames, hidden]."""
    import torch

    with torch.inference_mode():
        wave = torch.from_numpy(samples).to(model.device)
        states: Any = model(wave[None]).last_hidden_state[0]
    found: NDArray[np.float32] = states.cpu().numpy()
    return found
