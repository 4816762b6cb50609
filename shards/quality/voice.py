"""Where a recording sounds and where it pauses: an energy detector with hysteresis.

The level of every 10 ms is compared with two thresholds, which follow the 30 s around: a run of
frames sounds if it stays above the lower one and once reaches the upper one. They lie above the
noise floor (the quietest 3 % of the frames), nearer to it the smaller the contrast to the loudest,
yet never farther than about 40 dB under the loudest. In less than 3 s of sound, which may hold no
noise at all, they are at least 20 and 25 dB under it. Where there is no contrast (a tone, steady
noise, one long vowel) the thresholds of the stretch before go on to hold; at first all of it sounds
if it reaches -60 dB of full scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
Powers = npt.NDArray[np.float32]
Levels = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

FRAME_SECONDS = 0.01
STRETCH_FRAMES = 1000
"""Frames that are judged by the same thresholds."""
DIGITAL_SILENCE = 1e-9
"""Power under which there is nothing but the rounding and dither of 16 bits (-90 dB)."""
_SMOOTHED_FRAMES = 5
_FLOOR_PERCENT = 3
_LOUD_FRAMES = 20
_LEAST_CONTRAST = 10.0
_FEW_FRAMES = 300


@dataclass(frozen=True, eq=False)
class Stretch:
    """Consecutive frames: float32 [samples], power [frames], whether each sounds [frames]."""

    samples: Samples
    powers: Powers
    sounds: Flags


@dataclass(frozen=True)
class _Thresholds:
    """In dB of full scale."""

    upper: float
    lower: float


_AT_FIRST = _Thresholds(upper=-60.0, lower=10 * math.log10(DIGITAL_SILENCE))


def frame_length(sample_rate: int) -> int:
    """Samples in a frame."""
    return max(1, round(sample_rate * FRAME_SECONDS))


def frame_moments(samples: Samples, sample_rate: int) -> tuple[Samples, Powers]:
    """The mean and the power of every frame, float32 [frames]; the last frame may be shorter.

    Power is the variance, not the mean square: so a constant offset and slow rumble do not count. A
    frame that holds a NaN or an infinity has infinite power.
    """
    size = frame_length(sample_rate)
    whole = len(samples) // size * size
    means, powers = _moments(samples[:whole].reshape(-1, size))
    if whole < len(samples):
        mean, power = _moments(samples[None, whole:])
        means, powers = np.append(means, mean), np.append(powers, power)
    return means, powers


def _moments(frames: Samples) -> tuple[Samples, Powers]:
    with np.errstate(over="ignore", invalid="ignore"):
        means: Samples = np.einsum("ij->i", frames) / np.float32(frames.shape[1])
        squares = np.vecdot(frames, frames) / np.float32(frames.shape[1])
        variances: Powers = np.maximum(squares - means * means, 0)
    variances[~np.isfinite(variances)] = np.inf
    return means, variances


def smoothed(powers: Powers, frames: int) -> Powers:
    """The running mean over ``frames`` frames, of the same length."""
    padded = np.pad(powers, (frames // 2, frames - 1 - frames // 2), mode="edge")
    kernel = np.full(frames, 1 / frames, np.float32)
    means: Powers = np.convolve(padded, kernel, mode="valid")
    return means


def runs(flags: Flags) -> npt.NDArray[np.int64]:
    """Where ``flags`` are set without a break: [runs, 2] of start and end."""
    edges = np.diff(np.concatenate(([False], flags, [False])).astype(np.int8))
    return np.flatnonzero(edges).reshape(-1, 2)


def listen(blocks: Iterable[Samples], sample_rate: int) -> Iterator[Stretch]:
    """A recording that comes in blocks of any lengths, judged; never more than 40 s are held.

    The stretches do not depend on how the blocks are cut.
    """
    thresholds = _AT_FIRST
    for before, here, after in _neighbours(_measured(blocks, sample_rate)):
        known = [stretch.powers for stretch in (before, here, after) if stretch is not None]
        levels = _levels(np.concatenate(known))
        thresholds = _thresholds(levels, thresholds)
        skipped = 0 if before is None else len(before.powers)
        sounds = _above(levels, thresholds)[skipped : skipped + len(here.powers)]
        yield Stretch(here.samples, here.powers, sounds)


@dataclass(frozen=True, eq=False)
class _Measured:
    samples: Samples
    powers: Powers


def _measured(blocks: Iterable[Samples], sample_rate: int) -> Iterator[_Measured]:
    for samples in _evenly(blocks, STRETCH_FRAMES * frame_length(sample_rate)):
        yield _Measured(samples, frame_moments(samples, sample_rate)[1])


def _evenly(blocks: Iterable[Samples], size: int) -> Iterator[Samples]:
    held, filled = np.empty(size, np.float32), 0
    for block in blocks:
        rest = block
        while len(rest):
            taken = rest[: size - filled]
            held[filled : filled + len(taken)] = taken
            filled += len(taken)
            rest = rest[len(taken) :]
            if filled == size:
                yield held
                held, filled = np.empty(size, np.float32), 0
    if filled:
        yield held[:filled]


def _neighbours(
    items: Iterable[_Measured],
) -> Iterator[tuple[_Measured | None, _Measured, _Measured | None]]:
    before: _Measured | None = None
    here: _Measured | None = None
    for after in chain(items, [None]):
        if here is not None:
            yield before, here, after
        before, here = here, after


def _levels(powers: Powers) -> Levels:
    levels: Levels = 10 * np.log10(smoothed(powers, _SMOOTHED_FRAMES) + np.float32(1e-12))
    return levels


def _thresholds(levels: Levels, before: _Thresholds) -> _Thresholds:
    heard = levels[(levels > _AT_FIRST.lower) & np.isfinite(levels)]
    if not len(heard):
        return before
    floor = float(np.percentile(heard, _FLOOR_PERCENT))
    loud = loudest(heard)
    contrast = loud - floor
    if contrast < _LEAST_CONTRAST:
        return before
    upper = max(floor + min(0.35 * contrast, 10), loud - 38)
    lower = max(floor + min(0.2 * contrast, 6), loud - 43)
    if len(heard) < _FEW_FRAMES:
        # A word or two may hold no noise at all: then the floor is a soft consonant's.
        return _Thresholds(min(upper, loud - 20), min(lower, loud - 25))
    return _Thresholds(upper, lower)


def loudest(levels: Levels) -> float:
    """What the loudest 0.2 s reach, of fewer than 2 s the loudest tenth; not what a click does."""
    rank = min(_LOUD_FRAMES, len(levels) // 10 + 1)
    return float(np.partition(levels, -rank)[-rank])


def _above(levels: Levels, thresholds: _Thresholds) -> Flags:
    candidates = runs(levels >= thresholds.lower)
    sounds = np.zeros(len(levels), np.bool_)
    if not len(candidates):
        return sounds
    # Between two candidates all is below the lower threshold, so it changes no maximum.
    peaks = np.maximum.reduceat(levels, candidates[:, 0])
    for start, end in candidates[peaks >= thresholds.upper]:
        sounds[start:end] = True
    return sounds
