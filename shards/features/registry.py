"""Features that packing can compute, by the name a user asks for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy.typing as npt

from shards.audio import Audio
from shards.errors import UserError
from shards.features import phonemes_espeak
from shards.sources.source import Utterance

if TYPE_CHECKING:
    from shards.features.units_mfcc import MfccUnits

CODEBOOK = "units_mfcc.npz"


class Feature(Protocol):
    """Computes one member of a clip. Picklable: worker processes call it."""

    @property
    def member(self) -> str:
        """The name of the member it computes."""
        ...

    def compute(self, utterance: Utterance, audio: Audio | None) -> npt.NDArray[Any]:
        """The member's array, its length along the last axis; ValueError if it cannot be had."""
        ...

    def about(self) -> dict[str, Any]:
        """What a reader of the shards must know, for the index."""
        ...


@dataclass(frozen=True)
class EspeakPhonemes:
    """``phonemes.espeak``: the text's IPA as ids of a fixed table, int16 [phonemes]."""

    member: str = "phonemes.npy"

    def compute(self, utterance: Utterance, audio: Audio | None) -> npt.NDArray[Any]:
        """Phonemes of the utterance's text in its language."""
        from shards import espeak

        try:
            voice = phonemes_espeak.espeak_voice(utterance.language)
        except UserError as unknown:
            raise ValueError(str(unknown)) from unknown
        ids = phonemes_espeak.phoneme_ids(espeak.phonemize(utterance.text, voice))
        if len(ids) == 0:
            raise ValueError("text without phonemes")
        return ids

    def about(self) -> dict[str, Any]:
        """The table's size."""
        return {"feature": "phonemes.espeak", "symbols": len(phonemes_espeak.SYMBOLS)}


@dataclass(frozen=True)
class MfccSemantic:
    """``units.mfcc``: k-means units of MFCCs at 25 Hz, int16 [frames], codebook in ``folder``."""

    folder: Path
    member: str = "semantic.npy"

    def compute(self, utterance: Utterance, audio: Audio | None) -> npt.NDArray[Any]:
        """Units of the utterance's audio."""
        from shards.features.units_mfcc import mfcc25

        if audio is None:
            raise ValueError("units.mfcc needs audio")
        return _codebook(self.folder / CODEBOOK).assign(mfcc25(audio.samples, audio.sample_rate))

    def about(self) -> dict[str, Any]:
        """The codebook's file and rate."""
        return {"feature": "units.mfcc", "codebook": CODEBOOK, "per_second": 25}


@cache
def _codebook(path: Path) -> MfccUnits:
    from shards.features.units_mfcc import MfccUnits

    return MfccUnits.load(path)


def features_named(names: Iterable[str], folder: Path) -> tuple[Feature, ...]:
    """The features to compute into shards in ``folder``; UserError for an unknown name."""
    known: dict[str, Feature] = {
        "phonemes.espeak": EspeakPhonemes(),
        "units.mfcc": MfccSemantic(folder),
    }
    for name in names:
        if name not in known:
            raise UserError(f"--features {name}: unknown; there are {', '.join(known)}")
    return tuple(known[name] for name in names)
