"""A prepared GPT-SoVITS experiment: phonemes, semantic tokens and BERT features as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.errors import UserError
from shards.sources.source import Arrays, Reject, Utterance, read_lines

TEXT, SEMANTIC, BERT, AUDIO = (
    "2-name2text.txt",
    "6-name2semantic.tsv",
    "3-bert",
    "5-wav32k",
)
TOKENS_PER_SECOND = 25
BERT_DIM = 1024
MAX_TOKEN = 32767  # tokens are stored as int16


@dataclass(frozen=True)
class ExperimentFolder:
    """``logs/NAME`` as GPT-SoVITS's preparation leaves it; ``symbols`` is its version, v1 or v2."""

    path: Path
    symbols: str
    default_features: tuple[str, ...] = ()

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """A folder with the text and the semantic file."""
        return (path / TEXT).is_file() and (path / SEMANTIC).is_file()

    def utterances(self) -> Iterator[Utterance | Reject]:
        """Every name of the semantic file, in its order."""
        texts = _texts(self.path / TEXT)
        known = symbol_ids(self.symbols)
        seen: set[str] = set()
        for name, tokens in _semantic_rows(self.path / SEMANTIC):
            yield self._checked(name, tokens, texts.get(name), known, name in seen)
            seen.add(name)

    def arrays(self, utterance: Utterance) -> Arrays:
        """``phonemes.npy`` int16 [P], ``semantic.npy`` int16 [S], ``bert.npy`` float16 [1024, P].

        ValueError where BERT features do not fit the phonemes.
        """
        phonemes = _texts(self.path / TEXT)[utterance.name][0].split(" ")
        tokens = _tokens_by_name(self.path / SEMANTIC)[utterance.name]
        known = symbol_ids(self.symbols)
        arrays: dict[str, npt.NDArray[Any]] = {
            "phonemes.npy": np.array([known[symbol] for symbol in phonemes], dtype=np.int16),
            "semantic.npy": np.array(tokens.split(), dtype=np.int16),
        }
        bert = self.path / BERT / f"{utterance.name}.pt"
        if bert.is_file():
            arrays["bert.npy"] = _bert(bert, len(phonemes))
        return arrays

    def _checked(
        self,
        name: str,
        tokens: str,
        text: tuple[str, str] | None,
        known: dict[str, int],
        repeated: bool,
    ) -> Utterance | Reject:
        if repeated:
            return Reject(name, f"twice in {SEMANTIC}")
        if text is None:
            return Reject(name, f"not in {TEXT}")
        numbers = tokens.split()
        if not numbers or not all(number.isdecimal() for number in numbers):
            return Reject(name, "semantic tokens are not numbers", tokens[:40])
        largest = max(map(int, numbers))
        if largest > MAX_TOKEN:
            return Reject(name, f"semantic token over {MAX_TOKEN}", str(largest))
        unknown = [symbol for symbol in text[0].split(" ") if symbol not in known]
        if unknown:
            return Reject(name, f"phoneme not in table {self.symbols}", unknown[0])
        audio = self.path / AUDIO / name
        return Utterance(
            name=name,
            seconds=len(numbers) / TOKENS_PER_SECOND,
            speaker="",
            language="",
            text=text[1],
            audio=audio if audio.is_file() else None,
        )


@cache
def symbol_ids(version: str) -> dict[str, int]:
    """GPT-SoVITS's phoneme table, symbol to id; UserError for a version other than v1 or v2."""
    text = files("shards.sources").joinpath("gpt_sovits_symbols.json").read_text(encoding="utf-8")
    tables = json.loads(text)
    if version not in tables:
        raise UserError(f"--symbols {version}: there are {' and '.join(tables)}; name one of them")
    return {symbol: number for number, symbol in enumerate(tables[version])}


@cache
def _texts(path: Path) -> dict[str, tuple[str, str]]:
    """name -> (phonemes separated by spaces, normalised text)."""
    rows = (line.split("\t") for line in read_lines(path))
    return {row[0]: (row[1], row[3]) for row in rows if len(row) == 4}


def _semantic_rows(path: Path) -> Iterator[tuple[str, str]]:
    for line in read_lines(path):
        name, _, tokens = line.partition("\t")
        if name and name != "item_name":
            yield name, tokens


@cache
def _tokens_by_name(path: Path) -> dict[str, str]:
    return dict(reversed(list(_semantic_rows(path))))


def _bert(path: Path, phonemes: int) -> npt.NDArray[np.float16]:
    import torch

    try:
        features = torch.load(path, map_location="cpu", weights_only=True).detach()
    except Exception as error:  # a torn or foreign pickle fails in many ways
        raise ValueError("BERT features cannot be read") from error
    if features.shape != (BERT_DIM, phonemes):
        raise ValueError(f"BERT features are {list(features.shape)}, not [{BERT_DIM}, {phonemes}]")
    if not features.isfinite().all():
        raise ValueError("BERT features are not finite")
    half: npt.NDArray[np.float16] = features.to(torch.float16).numpy()
    return half
