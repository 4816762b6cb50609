"""Which clips are too bad to get in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import Field

from shards.section import Section


class QualityConfig(Section):
    """``quality``: limits, by default such that only the clearly broken is rejected.

    All figures stand in the index, so that a run can ask for more with data.filter.
    """

    min_seconds: float = Field(default=0.1, ge=0.1, description="reject shorter clips")
    min_peak: float = Field(default=0.001, ge=0, description="reject clips that never get louder")
    max_clipping: float | None = Field(
        default=0.1, ge=0, le=1, description="largest share of samples at full scale"
    )
    max_silence: float | None = Field(default=0.98, ge=0, le=1, description="largest share")
    min_snr_db: float | None = Field(default=None, description="least estimated SNR")
    max_dc: float | None = Field(default=0.25, ge=0, description="largest constant offset")
    min_bandwidth_hz: float | None = Field(default=None, ge=0, description="least bandwidth")
    min_phonemes_per_second: float | None = Field(default=None, ge=0)
    max_phonemes_per_second: float | None = Field(default=50.0, gt=0)


class _Limit(NamedTuple):
    reason: str
    figure: str
    least: float | None = None
    most: float | None = None


def breach(figures: Mapping[str, float], config: QualityConfig) -> tuple[str, str] | None:
    """The first limit that the figures of a clip break, None if it is good enough.

    As a reason and what decided: ("clipped", "clipping 0.23 over 0.1"). ``figures`` are those of
    `shards.quality.figures.measure`, ``seconds`` and ``phonemes_per_second``; one that is missing
    or NaN is not judged.
    """
    for limit in _limits(config):
        value = figures.get(limit.figure, math.nan) + 0.0  # -0 is 0
        if limit.least is not None and value < limit.least:
            return limit.reason, f"{limit.figure} {value:.4g} under {limit.least:g}"
        if limit.most is not None and value > limit.most:
            return limit.reason, f"{limit.figure} {value:.4g} over {limit.most:g}"
    return None


def _limits(config: QualityConfig) -> tuple[_Limit, ...]:
    least_dc = None if config.max_dc is None else -config.max_dc
    return (
        _Limit("too short", "seconds", least=config.min_seconds),
        _Limit("too quiet", "peak", least=config.min_peak),
        _Limit("constant offset", "dc", least=least_dc, most=config.max_dc),
        _Limit("clipped", "clipping", most=config.max_clipping),
        _Limit("mostly silence", "silence", most=config.max_silence),
        _Limit("too noisy", "snr_db", least=config.min_snr_db),
        _Limit("bandwidth too narrow", "bandwidth_hz", least=config.min_bandwidth_hz),
        _Limit("speech too slow", "phonemes_per_second", least=config.min_phonemes_per_second),
        _Limit("speech too fast", "phonemes_per_second", most=config.max_phonemes_per_second),
    )
