"""Which of the models whose files are understood can be trained here."""

from __future__ import annotations

from pretrain.weights.found import S2, SEED_VC
from shards.errors import UserError

_ABSENT = {S2: "GPT-SoVITS s2", SEED_VC: "Seed-VC"}


def refuse_absent(kind: str, place: str) -> None:
    """UserError for files of a model that Segue does not have."""
    if kind in _ABSENT:
        raise UserError(
            f"{place} is of {_ABSENT[kind]}, a model that Segue does not have yet; give files of "
            "GPT-SoVITS s1 (gpt_sovits_s1)"
        )
