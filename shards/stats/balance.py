"""Who and what the hours of a corpus are from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shards.stats.distribution import Floats

LISTED = 100
"""Names that `Balance` lists, at most."""

Codes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Group:
    """The clips of one name, which is empty where the corpus gives none."""

    name: str
    clips: int
    hours: float


@dataclass(frozen=True)
class Balance:
    """How the hours are spread over the names of a column.

    - ``count``: names that any clip has; those without a name are not among them.
    - ``largest_share``: the share of the hours with a name that the largest has.
    - ``median_hours``: of the named.
    - ``effective``: exp(entropy of their shares of the hours), as many names of equal hours would
      be as far from one.
    - ``unnamed``: the clips without a name.
    - ``largest``: the 100 names with most hours.

    All are 0 where there is no name.
    """

    count: int
    largest_share: float
    median_hours: float
    effective: float
    unnamed: Group
    largest: tuple[Group, ...]


@dataclass(frozen=True)
class Split:
    """A part of the corpus that training or validation reads, and how many speakers it has."""

    name: str
    clips: int
    hours: float
    speakers: int


@dataclass(frozen=True)
class Tally:
    """Clips and seconds of each name, [names]."""

    names: pa.Array
    clips: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float64]

    def group(self, place: int) -> Group:
        """What the name at ``place`` has."""
        name, seconds = self.names[place].as_py(), float(self.seconds[place])
        return Group(name, int(self.clips[place]), seconds / 3600)


def tally(names: pa.Array, parts: Iterable[tuple[Codes, Floats]]) -> Tally:
    """Count what comes in parts: places in ``names`` and seconds, both [clips]."""
    clips, held = np.zeros(len(names), dtype=np.int64), np.zeros(len(names))
    for codes, seconds in parts:
        clips += np.bincount(codes, minlength=len(names))
        held += np.bincount(codes, seconds, len(names))
    return Tally(names, clips, held)


def balance(counted: Tally) -> Balance:
    """How even the names' hours are."""
    empty = int(pc.index(counted.names, "").as_py())
    named = np.flatnonzero(counted.clips)
    named = named[named != empty]
    seconds = counted.seconds[named]
    order = np.argsort(-seconds, kind="stable")[:LISTED]
    shares = seconds / (float(seconds.sum()) or 1.0)
    return Balance(
        count=len(named),
        largest_share=float(shares.max(initial=0.0)),
        median_hours=float(np.median(seconds)) / 3600 if len(named) else 0.0,
        effective=_effective(shares),
        unnamed=Group("", 0, 0.0) if empty < 0 else counted.group(empty),
        largest=tuple(counted.group(int(place)) for place in named[order]),
    )


def _effective(shares: npt.NDArray[np.float64]) -> float:
    filled = shares[shares > 0]
    return float(np.exp(-(filled * np.log(filled)).sum())) if len(filled) else 0.0


def splits(
    counted: Tally, pairs: Iterable[tuple[Codes, Codes]], speakers: pa.Array
) -> tuple[Split, ...]:
    """The splits that were counted and that have clips, with how many of ``speakers`` each has.

    ``pairs`` are, part after part, places of the clips' splits and of their speakers, [clips].
    """
    heard = np.zeros((len(counted.names), len(speakers)), dtype=bool)
    for split, speaker in pairs:
        heard[split, speaker] = True
    heard &= pc.not_equal(speakers, "").to_numpy(zero_copy_only=False)
    groups = [counted.group(int(place)) for place in np.flatnonzero(counted.clips)]
    people = heard.sum(axis=1)[counted.clips > 0].tolist()
    return tuple(
        Split(group.name, group.clips, group.hours, count)
        for group, count in zip(groups, people, strict=True)
    )


def with_unnamed(balance: Balance) -> Sequence[Group]:
    """The largest names and those without one, most hours first."""
    unnamed = [balance.unnamed] if balance.unnamed.clips else []
    return sorted([*balance.largest, *unnamed], key=lambda group: -group.hours)
