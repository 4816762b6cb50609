"""How GPT-SoVITS configures its s1 model, and what that means here.

Upstream's YAML files are ``GPT_SoVITS/configs/s1*.yaml`` of RVC-Boss/GPT-SoVITS; a released
checkpoint holds one as ``config``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pretrain.models.gpt_sovits_s1.config import S1Config
from pretrain.models.upstream import Shapes, Sizes, Translation, leaves, put
from shards.errors import UserError

SIZES = ("vocab_size", "phoneme_vocab_size", "hidden_dim", "head", "n_layer")
MAX_SECONDS = 54.0
"""What all of upstream's files have as ``data.max_sec``."""
CLIP_SECONDS = 7.5
"""How long a clip is taken to be where upstream counts clips: its slicer cuts at pauses from 4 s
on."""
ACCUMULATION = 4
"""Upstream steps after so many batches, whatever its file says."""
IGNORED = frozenset(
    {
        "train.gradient_clip",
        "train.gradient_accumulation",
        "optimizer.lr",
        "optimizer.lr_init",
        "optimizer.lr_end",
        "optimizer.warmup_steps",
        "optimizer.decay_steps",
        "model.linear_units",
        "model.random_bert",
    }
)
"""Keys of upstream's files that upstream reads nowhere, or overwrites."""
_NOTES = f"""\
# batch: upstream counts clips on each GPU (train.batch_size) and steps after {ACCUMULATION}
# batches. Here a clip counts {CLIP_SECONDS} s, a micro-batch takes the longest clip, and a step has
# {ACCUMULATION} micro-batches over all GPUs together: for n GPUs, multiply batch.seconds by n to
# step over as much speech as upstream.
# optimizer, schedule: Segue's own; the rates of upstream's ScaledAdam mean nothing to AdamW.
"""
_PRECISIONS = {"32": "fp32", "32-true": "fp32"}  # bf16 takes the place of fp16


def sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config's ``model`` says of the sizes; upstream and our own runs name them alike."""
    model = config.get("model")
    return {key: model[key] for key in SIZES if key in model} if isinstance(model, Mapping) else {}


def sizes_of(shapes: Shapes) -> Sizes:
    """Nothing: upstream's files carry their config, and no shape tells the number of heads."""
    return Sizes({})


def translated(config: Mapping[str, Any], where: str) -> Translation:
    """Upstream's config as sections of a run's.

    UserError, which calls the config ``where``, for one that upstream itself could not train.
    """
    known = dict(leaves(config))
    _refuse_what_does_not_fit(known, where)
    sections: dict[str, Any] = {"model": {"name": "gpt_sovits_s1", **sizes(config)}}
    taken = {f"model.{key}": f"model.{key}" for key in SIZES}
    taken |= {"model.embedding_dim": "model.hidden_dim", "model.EOS": "model.vocab_size"}
    for theirs, ours in (
        ("data.max_sec", "data.max_seconds"),
        ("data.num_workers", "data.workers"),
        ("train.epochs", "train.epochs"),
        ("train.save_every_n_epoch", "checkpoint.keep_every_epochs"),
        ("train.seed", "seed"),
    ):
        if theirs in known:
            put(sections, ours, known[theirs])
            taken[theirs] = ours
    sections["batch"] = _batch(known, where)
    taken["train.batch_size"] = "batch.seconds and batch.micro_seconds"
    if "train.precision" in known:
        sections["precision"] = _PRECISIONS.get(str(known["train.precision"]), "bf16")
        taken["train.precision"] = "precision"
    return Translation(
        "GPT-SoVITS s1",
        _NOTES,
        sections,
        {theirs: ours for theirs, ours in taken.items() if theirs in known},
        tuple(key for key in known if key in IGNORED),
        tuple(key for key in known if key not in IGNORED and key not in taken),
    )


def release_config(model: S1Config, max_seconds: float) -> dict[str, Any]:
    """The ``config`` of a released checkpoint: all that upstream's programs read when they load it.

    ``linear_units`` is the width that upstream's layers have whatever it says there.
    """
    return {
        "data": {"max_sec": max_seconds, "pad_val": model.eos},
        "model": {
            "vocab_size": model.vocab_size,
            "phoneme_vocab_size": model.phoneme_vocab_size,
            "embedding_dim": model.hidden_dim,
            "hidden_dim": model.hidden_dim,
            "head": model.head,
            "linear_units": 4 * model.hidden_dim,
            "n_layer": model.n_layer,
            "dropout": 0,
            "EOS": model.eos,
            "random_bert": 0,
        },
        "inference": {"top_k": 15},
    }


def _refuse_what_does_not_fit(known: Mapping[str, Any], where: str) -> None:
    missing = [f"model.{key}" for key in SIZES if not isinstance(known.get(f"model.{key}"), int)]
    if missing:
        raise UserError(f"{where} lacks {', '.join(missing)}; write whole numbers there")
    for theirs, expected, why in (
        ("model.embedding_dim", known["model.hidden_dim"], "model.hidden_dim"),
        ("model.EOS", known["model.vocab_size"] - 1, "the last token, model.vocab_size - 1"),
    ):
        if known.get(theirs, expected) != expected:
            raise UserError(
                f"{where}: {theirs}={known[theirs]} is not {why}, as the model needs it; write "
                f"{expected}"
            )


def _batch(known: Mapping[str, Any], where: str) -> dict[str, float]:
    """Seconds for upstream's number of clips; a micro-batch takes the longest clip."""
    clips, longest = known.get("train.batch_size", 8), known.get("data.max_sec", MAX_SECONDS)
    try:
        micro = max(clips * CLIP_SECONDS, longest)
    except TypeError as error:
        raise UserError(
            f"{where}: train.batch_size={clips} and data.max_sec={longest}; write numbers"
        ) from error
    return {"seconds": ACCUMULATION * micro, "micro_seconds": micro}
