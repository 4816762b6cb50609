"""Upstream's three Seed-VC presets: our sizes, their keys, and configs as their YAML files say."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "golden"
Keys = dict[str, dict[str, tuple[list[int], str, str]]]
"""By component: a key's shape, dtype and kind (param or buffer), in the state dict's order."""

PRESETS: dict[str, dict[str, Any]] = {
    "small": {},
    "44k": {
        "mel": "seed_vc_44k",
        "hidden_dim": 768,
        "head": 12,
        "n_layer": 17,
        "content_dim": 768,
        "head_type": "mlp",
        "long_skip": False,
        "f0_condition": True,
    },
    "xlsr": {
        "mel": "seed_vc_22k_hifigan",
        "hidden_dim": 384,
        "head": 6,
        "n_layer": 9,
        "content_channels": 1024,
        "content_dim": 384,
        "content_codebook": 1024,
        "head_type": "mlp",
        "long_skip": False,
        "time_as_token": True,
        "style_as_token": True,
    },
}


def preset_keys(name: str) -> Keys:
    found: Keys = json.loads((GOLDEN / "seed_vc_keys.json").read_text())[name]
    return found


def variant_keys(name: str) -> Keys:
    """Of the tiny variants ``wavenet``, ``mlp_f0`` and ``tokens``."""
    found: Keys = json.loads((GOLDEN / "seed_vc_tiny.json").read_text())[name]["keys"]
    return found


_SMALL: dict[str, Any] = {
    "log_dir": "./runs",
    "save_freq": 1,
    "log_interval": 10,
    "save_interval": 1000,
    "device": "cuda",
    "epochs": 1000,
    "batch_size": 2,
    "batch_length": 100,
    "max_len": 80,
    "pretrained_model": "small.pth",
    "pretrained_encoder": "",
    "load_only_params": False,
    "preprocess_params": {
        "sr": 22050,
        "spect_params": {
            "n_fft": 1024,
            "win_length": 1024,
            "hop_length": 256,
            "n_mels": 80,
            "fmin": 0,
            "fmax": "None",
        },
    },
    "model_params": {
        "dit_type": "DiT",
        "reg_loss_type": "l1",
        "timbre_shifter": {"se_db_path": "se.pt", "ckpt_path": "converter"},
        "vocoder": {"type": "bigvgan", "name": "bigvgan_v2_22khz_80band_256x"},
        "speech_tokenizer": {"type": "whisper", "name": "whisper-small"},
        "style_encoder": {"dim": 192, "campplus_path": "campplus.bin"},
        "DAC": {"encoder_dim": 64, "decoder_dim": 1536, "sr": 24000},
        "length_regulator": {
            "channels": 512,
            "is_discrete": False,
            "in_channels": 768,
            "content_codebook_size": 2048,
            "sampling_ratios": [1, 1, 1, 1],
            "vector_quantize": False,
            "n_codebooks": 1,
            "quantizer_dropout": 0.0,
            "f0_condition": False,
            "n_f0_bins": 256,
        },
        "DiT": {
            "hidden_dim": 512,
            "num_heads": 8,
            "depth": 13,
            "class_dropout_prob": 0.1,
            "block_size": 8192,
            "in_channels": 80,
            "style_condition": True,
            "final_layer_type": "wavenet",
            "target": "mel",
            "content_dim": 512,
            "content_codebook_size": 1024,
            "content_type": "discrete",
            "f0_condition": False,
            "n_f0_bins": 512,
            "content_codebooks": 1,
            "is_causal": False,
            "long_skip_connection": True,
            "zero_prompt_speech_token": False,
            "time_as_token": False,
            "style_as_token": False,
            "uvit_skip_connection": True,
            "add_resblock_in_transformer": False,
        },
        "wavenet": {
            "hidden_dim": 512,
            "num_layers": 8,
            "kernel_size": 5,
            "dilation_rate": 1,
            "p_dropout": 0.2,
            "style_condition": True,
        },
    },
    "loss_params": {"base_lr": 1e-4, "lambda_mel": 45, "lambda_kl": 1.0},
}
_CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "small": {},
    "44k": {
        "preprocess_params": {"sr": 44100},
        "spect_params": {"n_fft": 2048, "win_length": 2048, "hop_length": 512, "n_mels": 128},
        "length_regulator": {"channels": 768, "f0_condition": True},
        "DiT": {
            "hidden_dim": 768,
            "num_heads": 12,
            "depth": 17,
            "in_channels": 128,
            "content_dim": 768,
            "final_layer_type": "mlp",
            "f0_condition": True,
            "long_skip_connection": False,
        },
    },
    "xlsr": {
        "spect_params": {"fmax": 8000},
        "length_regulator": {"channels": 384, "in_channels": 1024, "content_codebook_size": 1024},
        "DiT": {
            "hidden_dim": 384,
            "num_heads": 6,
            "depth": 9,
            "content_dim": 384,
            "final_layer_type": "mlp",
            "time_as_token": True,
            "style_as_token": True,
            "long_skip_connection": False,
        },
    },
}


def preset_yaml(name: str) -> dict[str, Any]:
    """A preset's config with the keys of upstream's YAML files."""
    values = copy.deepcopy(_SMALL)
    sections = {
        "preprocess_params": values["preprocess_params"],
        "spect_params": values["preprocess_params"]["spect_params"],
        **values["model_params"],
    }
    for section, changes in _CHANGES[name].items():
        sections[section].update(changes)
    return values
