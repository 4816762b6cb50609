"""Which of the models whose files are understood can be trained here."""

from __future__ import annotations

from collections.abc import Mapping

from pretrain.models import FAMILIES
from pretrain.weights.found import KINDS, S2, SEED_VC_V2, Weights
from shards.errors import UserError

_ABSENT = {S2: "GPT-SoVITS s2", SEED_VC_V2: "Seed-VC v2"}


def refuse_absent(kind: str, place: str) -> None:
    """UserError for files of a model that Segue does not have."""
    if kind in _ABSENT:
        raise UserError(
            f"{place} is of {_ABSENT[kind]}, a model that Segue does not have yet; give files of "
            "GPT-SoVITS s1 (gpt_sovits_s1) or Seed-VC v1 (seed_vc)"
        )


def family_of(weights: Weights) -> str | None:
    """The model family that weights say, or show, they are of; None where they do neither."""
    model = weights.config.get("model")
    if isinstance(model, Mapping) and "name" in model:
        return str(model["name"])
    return weights.kind if weights.kind in FAMILIES else None


def refuse_other(weights: Weights, family: str, key: str) -> None:
    """UserError where weights are of another one of our families than ``key`` names.

    What is brought to a user's own model is for the fit to tell.
    """
    refuse_absent(weights.kind, weights.place)
    found = family_of(weights)
    if found in FAMILIES and family in FAMILIES and found != family:
        what = KINDS[weights.kind]
        raise UserError(
            f"{weights.place} holds {what}, of the model {found} and not {family}; write "
            f"{key}{found} or give other weights"
        )
