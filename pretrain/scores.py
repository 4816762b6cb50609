"""What a model makes of single clips, and the means over groups of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shards.corpus import Corpus, Rows

Floats = npt.NDArray[np.float64]

ALL = "all"
BANDS = (0.0, 3.0, 6.0, 10.0, 20.0, 40.0)
"""Where bands of clip length begin, in seconds."""


@dataclass(frozen=True, eq=False)
class ClipSums:
    """``terms[name]`` [clips]: sums over the targets of the clips of corpus ``rows`` [clips]."""

    rows: Rows
    terms: Mapping[str, Floats]


@dataclass(frozen=True)
class Score:
    """Means over the ``targets`` of ``clips`` clips, by term."""

    clips: int
    targets: int
    terms: Mapping[str, float]


def merged(parts: Sequence[ClipSums]) -> ClipSums:
    """All clips by row, so that sums over them do not depend on who held which."""
    held = [part for part in parts if len(part.rows)]
    if not held:
        return ClipSums(np.array([], dtype=np.int64), {})
    rows = np.concatenate([part.rows for part in held])
    order = np.argsort(rows, kind="stable")
    terms = {
        name: np.concatenate([part.terms[name] for part in held])[order] for name in held[0].terms
    }
    return ClipSums(rows[order], terms)


def scores(corpus: Corpus, sums: ClipSums, targets: npt.NDArray[np.int64]) -> dict[str, Score]:
    """Means over all clips (``all``) and by ``source/``, ``language/`` and ``seconds/``.

    ``targets`` [clips] are what each clip's sums are over. A kind of group that has one member
    only is left out: it is ``all`` again.
    """
    found = {ALL: _score(sums, targets, np.ones(len(sums.rows), dtype=np.bool_))}
    for kind, labels in _labels(corpus, sums.rows).items():
        names = sorted({*labels.tolist()}, key=_by_number)
        for name in names if len(names) > 1 else ():
            found[f"{kind}/{name}"] = _score(sums, targets, labels == name)
    return found


def _score(sums: ClipSums, targets: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_]) -> Score:
    count = int(targets[chosen].sum())
    terms = {
        name: float(values[chosen].sum()) / max(1, count) for name, values in sums.terms.items()
    }
    return Score(int(chosen.sum()), count, terms)


def _labels(corpus: Corpus, rows: Rows) -> dict[str, npt.NDArray[np.str_]]:
    bands = np.searchsorted(BANDS, corpus.seconds(rows), side="right") - 1
    ends = [*(f"{end:g}" for end in BANDS[1:]), ""]
    bounds = [f"{start:g}-{end}" for start, end in zip(BANDS, ends, strict=True)]
    return {
        "source": np.array([corpus.source_of(int(row))[0].name for row in rows], dtype=np.str_),
        "language": np.array([_language(corpus, int(row)) for row in rows], dtype=np.str_),
        "seconds": np.array(bounds, dtype=np.str_)[bands],
    }


def _language(corpus: Corpus, row: int) -> str:
    source, local = corpus.source_of(row)
    code = int(source.index.codes("language").take(np.array([local]))[0])
    return str(source.index.names("language")[code].as_py()) or "unknown"


def _by_number(name: str) -> tuple[float, str]:
    start = name.partition("-")[0]
    return (float(start) if start.replace(".", "").isdigit() else 0.0, name)
