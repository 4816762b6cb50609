"""Features that packing can compute, by the name a user asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from shards.errors import UserError
from shards.features.bert import BertFeatures
from shards.features.content_mfcc import MfccContent
from shards.features.content_whisper import WhisperContent
from shards.features.content_xlsr import XlsrContent
from shards.features.f0_pyworld import WorldF0
from shards.features.feature import Feature
from shards.features.loudness import Loudness
from shards.features.mel import Mel
from shards.features.phonemes_espeak import EspeakPhonemes
from shards.features.style_campplus import CampplusStyle
from shards.features.style_mean_mel import MeanMelStyle
from shards.features.units_hubert import HubertUnits
from shards.features.units_mfcc import MfccUnits
from shards.features.units_sovits import SovitsUnits

if TYPE_CHECKING:
    from shards.pack.config import PackConfig

_BUILDERS: dict[str, Callable[[PackConfig, Path], Feature]] = {
    "phonemes.espeak": EspeakPhonemes.configured,
    "units.mfcc": MfccUnits.configured,
    "units.hubert": HubertUnits.configured,
    "units.sovits": SovitsUnits.configured,
    "bert": BertFeatures.configured,
    "mel": Mel.configured,
    "loudness": Loudness.configured,
    "content.mfcc": MfccContent.configured,
    "content.whisper": WhisperContent.configured,
    "content.xlsr": XlsrContent.configured,
    "f0.pyworld": WorldF0.configured,
    "style.campplus": CampplusStyle.configured,
    "style.mean_mel": MeanMelStyle.configured,
}

FEATURES = tuple(_BUILDERS)
"""Every name that `features_named` knows."""


def features_named(names: Iterable[str], config: PackConfig, out: Path) -> tuple[Feature, ...]:
    """The features to compute into shards in ``out``, in the order of ``names``.

    UserError for an unknown name, for two features of one member, and for a feature whose options
    in ``config`` or whose models on disk will not do.
    """
    wanted = tuple(names)
    for name in wanted:
        _refuse_unknown(name)
    features = tuple(_BUILDERS[name](config, out) for name in wanted)
    _refuse_shared_members(wanted, features)
    return features


def _refuse_unknown(name: str) -> None:
    if name in _BUILDERS:
        return
    nearest = get_close_matches(name, FEATURES, n=1)
    meant = f", did you mean {nearest[0]}" if nearest else ""
    raise UserError(f"features: '{name}' is unknown{meant}; choose from {', '.join(FEATURES)}")


def _refuse_shared_members(names: tuple[str, ...], features: tuple[Feature, ...]) -> None:
    writers: dict[str, str] = {}
    for name, feature in zip(names, features, strict=True):
        if feature.member in writers:
            raise UserError(
                f"features: {writers[feature.member]} and {name} both write {feature.member}; "
                "name only one of them"
            )
        writers[feature.member] = name
