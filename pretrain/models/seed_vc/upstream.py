"""How Seed-VC configures its v1 models, and what that means here.

Upstream's YAML files are ``configs/presets/*.yml`` of Plachtaa/seed-vc. Its checkpoints carry none:
`sizes_of` tells what their tensors do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args

from pretrain.models.seed_vc.config import SeedVCMel
from pretrain.models.seed_vc.shapes import sizes_of
from pretrain.models.upstream import Translation, leaves, put
from shards.errors import UserError
from shards.features.mel_spectrogram import PRESETS, MelParameters

__all__ = ["sizes", "sizes_of", "translated"]
LEARNING_RATE, GAMMA = 1e-5, 0.999996
"""What upstream's trainer begins with, and what multiplies it at every step."""
OPTIMIZER = {
    "lr": LEARNING_RATE,
    "betas": [0.9, 0.98],
    "eps": 1e-6,
    "weight_decay": 0.01,
    "clip": 10.0,
}
"""What is fixed in upstream's trainer. It clips its two components apart, and decays all."""
FLOOR = 0.1
CLIP_SECONDS = 10.0
"""How long a clip is taken to be where upstream counts clips."""
SHORTEST, LONGEST = 1.0, 30.0
"""Seconds of the clips that upstream trains on."""
_DIT, _REGULATOR = "model_params.DiT", "model_params.length_regulator"
_WAVENET, _SPECTRUM = "model_params.wavenet", "preprocess_params.spect_params"
_MODEL = {
    f"{_DIT}.hidden_dim": "hidden_dim",
    f"{_DIT}.num_heads": "head",
    f"{_DIT}.depth": "n_layer",
    f"{_DIT}.class_dropout_prob": "class_dropout",
    f"{_DIT}.final_layer_type": "head_type",
    f"{_DIT}.time_as_token": "time_as_token",
    f"{_DIT}.style_as_token": "style_as_token",
    f"{_DIT}.long_skip_connection": "long_skip",
    f"{_DIT}.uvit_skip_connection": "uvit_skip",
    f"{_REGULATOR}.in_channels": "content_channels",
    f"{_REGULATOR}.channels": "content_dim",
    f"{_REGULATOR}.content_codebook_size": "content_codebook",
    f"{_REGULATOR}.f0_condition": "f0_condition",
    f"{_REGULATOR}.n_f0_bins": "n_f0_bins",
    "model_params.style_encoder.dim": "style_dim",
    "model_params.reg_loss_type": "loss",
    f"{_WAVENET}.num_layers": "wavenet.layers",
    f"{_WAVENET}.kernel_size": "wavenet.kernel_size",
    f"{_WAVENET}.dilation_rate": "wavenet.dilation_rate",
    f"{_WAVENET}.p_dropout": "wavenet.dropout",
}
_RUN = {"log_dir": "run.dir", "log_interval": "train.log_every"}
_REQUIRED = (
    *(f"{_DIT}.{key}" for key in ("hidden_dim", "num_heads", "depth", "final_layer_type")),
    *(f"{_REGULATOR}.{key}" for key in ("in_channels", "channels")),
)
_FIXED: dict[str, Any] = {
    "model_params.dit_type": "DiT",
    f"{_DIT}.style_condition": True,
    f"{_DIT}.is_causal": False,
    f"{_DIT}.zero_prompt_speech_token": False,
    f"{_DIT}.content_codebook_size": 1024,
    f"{_REGULATOR}.is_discrete": False,
    f"{_REGULATOR}.sampling_ratios": [1, 1, 1, 1],
    f"{_WAVENET}.style_condition": True,
    f"{_SPECTRUM}.fmin": 0,
}
"""What all of upstream's files have, and the family has too."""
_IGNORED = (
    *("save_freq", "save_interval", "device", "epochs", "batch_length", "max_len"),
    *("pretrained_encoder", "load_only_params", "loss_params."),
    *("model_params.DAC.", "model_params.timbre_shifter."),
    *(f"{_DIT}.{key}" for key in ("block_size", "target", "content_type", "n_f0_bins")),
    f"{_DIT}.add_resblock_in_transformer",
    *(f"{_REGULATOR}.{key}" for key in ("vector_quantize", "n_codebooks", "quantizer_dropout")),
)
"""Keys of upstream's files, or what they begin with, that upstream's trainer reads nowhere."""
_NOTES = f"""\
# init_from: upstream begins with its pretrained_model; give that file for the same.
# batch: upstream counts clips (batch_size). Here a clip counts {CLIP_SECONDS:g} s, and a
# micro-batch takes the longest: for n GPUs, multiply batch.seconds by n.
# optimizer, schedule: those of upstream's trainer, which is for fine-tuning; its rate shrinks by
# {GAMMA} a step for ever, here until {FLOOR:g} of the first is left.
"""


def sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """What ``model_params``, and ``preprocess_params`` of the spectrogram, say of the model."""
    known = dict(leaves(config))
    found: dict[str, Any] = {}
    for theirs, ours in _MODEL.items():
        if theirs in known:
            put(found, ours, known[theirs])
    mel = _mel(known)
    return found | ({"mel": mel} if mel else {})


def translated(config: Mapping[str, Any], where: str) -> Translation:
    """Upstream's config as sections of a run's.

    UserError, which calls the config ``where``, for a model that Segue does not have.
    """
    known = dict(leaves(config))
    _refuse_what_does_not_fit(known, where)
    sections: dict[str, Any] = {
        "data": {"min_seconds": SHORTEST, "max_seconds": LONGEST},
        "batch": _batch(known, where),
        "train": {},
        "model": {"name": "seed_vc", **sizes(config)},
        "optimizer": dict(OPTIMIZER),
        "schedule": {
            "name": "exponential",
            "warmup_steps": 0,
            "decay_steps": round(math.log(FLOOR) / math.log(GAMMA)),
            "floor": FLOOR,
        },
    }
    for theirs, ours in _RUN.items():
        if theirs in known:
            put(sections, ours, known[theirs])
    told = _counterparts() | _RUN
    return Translation(
        "Seed-VC v1",
        _NOTES,
        sections,
        {theirs: told[theirs] for theirs in known if theirs in told},
        tuple(key for key in known if key.startswith(_IGNORED) and key not in told),
        tuple(key for key in known if not key.startswith(_IGNORED) and key not in told),
    )


def _counterparts() -> dict[str, str]:
    """What of the run's config each of upstream's keys decides or must agree with."""
    return {
        **{theirs: f"model.{ours}" for theirs, ours in _MODEL.items()},
        **dict.fromkeys(_FIXED, "model.name"),
        f"{_DIT}.in_channels": "model.mel",
        f"{_DIT}.content_dim": "model.content_dim",
        f"{_DIT}.f0_condition": "model.f0_condition",
        f"{_WAVENET}.hidden_dim": "model.hidden_dim",
        "preprocess_params.sr": "model.mel",
        **{
            f"{_SPECTRUM}.{key}": "model.mel"
            for key in ("n_fft", "win_length", "hop_length", "n_mels", "fmin", "fmax")
        },
        "batch_size": "batch.seconds and batch.micro_seconds",
    }


def _mel(known: Mapping[str, Any]) -> SeedVCMel | None:
    """The preset of the spectrogram that upstream's config describes, if there is one."""
    highest = known.get(f"{_SPECTRUM}.fmax")
    told = (
        known.get("preprocess_params.sr"),
        *(known.get(f"{_SPECTRUM}.{key}") for key in ("n_fft", "hop_length", "n_mels")),
        None if highest in {None, "None"} else highest,
    )
    names: tuple[SeedVCMel, ...] = get_args(SeedVCMel)
    for name in names:
        one = PRESETS[name]
        if told == (one.sample_rate, one.n_fft, one.hop, one.n_mels, one.f_max):
            return name
    return None


def _refuse_what_does_not_fit(known: Mapping[str, Any], where: str) -> None:
    missing = [key for key in _REQUIRED if key not in known]
    if missing:
        raise UserError(f"{where} lacks {', '.join(missing)}; give a whole config of Seed-VC v1")
    mel = _mel(known)
    if mel is None:
        raise UserError(
            f"{where}: preprocess_params describes none of the spectrograms "
            f"{', '.join(get_args(SeedVCMel))}; write the sr, n_fft, hop_length, n_mels and fmax "
            "of one of upstream's presets"
        )
    for key, (expected, why) in _expected(known, PRESETS[mel]).items():
        if known.get(key, expected) != expected:
            raise UserError(f"{where}: {key}={known[key]} is not {why}; write {expected}")


def _expected(known: Mapping[str, Any], mel: MelParameters) -> dict[str, tuple[Any, str]]:
    """What each key must have, and why."""
    expected = {key: (value, "what Segue's seed_vc has") for key, value in _FIXED.items()}
    for key, value, other in (
        (f"{_SPECTRUM}.win_length", mel.n_fft, f"{_SPECTRUM}.n_fft"),
        (f"{_DIT}.in_channels", mel.n_mels, f"{_SPECTRUM}.n_mels"),
        (f"{_DIT}.content_dim", known[f"{_REGULATOR}.channels"], f"{_REGULATOR}.channels"),
        (
            f"{_DIT}.f0_condition",
            known.get(f"{_REGULATOR}.f0_condition", False),
            f"{_REGULATOR}.f0_condition",
        ),
    ):
        expected[key] = (value, other)
    if known[f"{_DIT}.final_layer_type"] == "wavenet":
        expected[f"{_WAVENET}.hidden_dim"] = (known[f"{_DIT}.hidden_dim"], f"{_DIT}.hidden_dim")
    return expected


def _batch(known: Mapping[str, Any], where: str) -> dict[str, float]:
    """Seconds for upstream's number of clips; a micro-batch takes the longest clip."""
    clips = known.get("batch_size", 2)
    if not isinstance(clips, int) or clips < 1:
        raise UserError(f"{where}: batch_size={clips} is no number of clips; write one")
    seconds = max(clips * CLIP_SECONDS, LONGEST)
    return {"seconds": seconds, "micro_seconds": seconds}
