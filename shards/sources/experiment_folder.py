"""A prepared GPT-SoVITS experiment: phonemes, semantic tokens and BERT features as they are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shards.audio import AudioPlace
from shards.errors import UserError
from shards.json_facts import UnusableError
from shards.sources.named_lines import BOM, NamedLines
from shards.sources.paths import is_file, printable
from shards.sources.source import Members, Recording, Reject, Source

if TYPE_CHECKING:
    from shards.pack.config import GptSovitsConfig, PackConfig

TEXT, SEMANTIC = "2-name2text.txt", "6-name2semantic.tsv"
BERT, CNHUBERT, AUDIO = "3-bert", "4-cnhubert", "5-wav32k"
TEXT_FIELDS, SEMANTIC_FIELDS = 4, 2
TOKENS_PER_SECOND = 25
BERT_DIM, CNHUBERT_DIM = 1024, 768
_MAX_DIGITS = 9
_TOKENS_PER_PHONEME = 2.5  # upstream's bound on phonemes is that on tokens through this


class ExperimentFolder(Source):
    """``logs/NAME`` as GPT-SoVITS's preparation leaves it.

    ``gpt_sovits.symbols`` is the version of its phoneme table. BERT features are packed where
    3-bert has them; those of 4-cnhubert, 276 MB an hour, where ``gpt_sovits.cnhubert`` says so.
    """

    kind = "gpt_sovits"
    about = f"a prepared GPT-SoVITS experiment folder ({TEXT} and {SEMANTIC})"
    default_audio = "none"
    tells_word2ph = True

    def __init__(self, path: Path, config: PackConfig) -> None:
        super().__init__(path, config)
        if not self.recognises(path):
            raise UserError(
                f"SOURCE: {path} does not hold {TEXT} and {SEMANTIC}; name an experiment folder"
            )
        self._config = config.gpt_sovits
        self._wants_cnhubert = config.gpt_sovits.cnhubert

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """A folder with the text and the semantic file."""
        return is_file(path / TEXT) and is_file(path / SEMANTIC)

    def recordings(self) -> Iterator[Recording | Reject]:
        """Every name of the semantic file, in its order."""
        with NamedLines(self.path / TEXT, TEXT_FIELDS) as texts:
            for number, name, tokens in _semantic_rows(self.path / SEMANTIC):
                yield self._found(number, name, tokens, texts.find(name))
        yield from self._texts_alone()

    def _texts_alone(self) -> Iterator[Reject]:
        """The names of the text file that have no tokens."""
        path = self.path / TEXT
        with NamedLines(self.path / SEMANTIC, SEMANTIC_FIELDS) as rows, path.open("rb") as file:
            for line in file:
                name = line.removeprefix(BOM).partition(b"\t")[0]
                whole = line.count(b"\t") == TEXT_FIELDS - 1
                if whole and name and rows.find(name) is None:
                    called = printable(os.fsdecode(name))
                    yield Reject(called, f"not in {SEMANTIC}", "", str(path))

    def members(self, recording: Recording) -> Members:
        """``phonemes.npy`` int16 [P], ``semantic.npy`` int16 [S], ``bert.npy`` float16 [1024, P].

        And ``cnhubert.npy`` float16 [768, T], 50 a second. UnusableError where features are broken
        or do not fit the phonemes.
        """
        known = symbol_ids(self._config.symbols)
        phonemes = [known[symbol] for symbol in recording.handle["phonemes"].split(" ")]
        members: dict[str, npt.NDArray[Any]] = {
            "phonemes.npy": np.array(phonemes, dtype=np.int16),
            "semantic.npy": np.array(recording.handle["semantic"].split(), dtype=np.int16),
        }
        bert = self.path / BERT / f"{recording.name}.pt"
        if is_file(bert):
            members["bert.npy"] = _features(bert, "BERT", (BERT_DIM, len(phonemes)))
        cnhubert = self.path / CNHUBERT / f"{recording.name}.pt"
        if self._wants_cnhubert and is_file(cnhubert):
            members["cnhubert.npy"] = _features(cnhubert, "cnhubert", (1, CNHUBERT_DIM, None))[0]
        return members

    def _found(
        self, number: int, raw: bytes, tokens: bytes, line: bytes | None
    ) -> Recording | Reject:
        file = str(self.path / SEMANTIC)
        try:
            name, row = raw.decode(), (line or b"").decode().split("\t")
        except UnicodeDecodeError:
            return Reject(printable(os.fsdecode(raw)), "name or text is not UTF-8", "", file)
        if not name or "\0" in name:
            return Reject(f"{SEMANTIC}, line {number}", "not a name", name[:80], file)
        if line is None:
            return Reject(name, f"not in {TEXT}", "", file)
        problem = _broken(tokens, row[1], self._config) or _filtered(tokens, row[1], self._config)
        if problem:
            return Reject(name, *problem, file)
        return self._recording(name, tokens.decode(), row)

    def _recording(self, name: str, tokens: str, row: list[str]) -> Recording:
        _, phonemes, word2ph, text = row
        audio = self.path / AUDIO / name
        counts = _counts(word2ph)
        return Recording(
            name=name,
            audio=AudioPlace(audio) if is_file(audio) else None,
            seconds=len(tokens.split()) / TOKENS_PER_SECOND,
            text=text,
            facts={"word2ph": counts} if counts else {},
            handle={"phonemes": phonemes, "semantic": tokens},
        )


@cache
def symbol_ids(version: str) -> dict[str, int]:
    """GPT-SoVITS's phoneme table, symbol to id, of version v1 or v2."""
    text = files("shards.sources").joinpath("gpt_sovits_symbols.json").read_text(encoding="utf-8")
    return {symbol: number for number, symbol in enumerate(json.loads(text)[version])}


def _semantic_rows(path: Path) -> Iterator[tuple[int, bytes, bytes]]:
    """(line number, name, tokens) of every line but empty ones and headers."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            name, _, tokens = line.rstrip(b"\r\n").removeprefix(BOM).partition(b"\t")
            if (name or tokens) and name != b"item_name":
                yield number, name, tokens


def _broken(tokens: bytes, phonemes: str, config: GptSovitsConfig) -> tuple[str, str] | None:
    """Why a row has no ids, and what decided."""
    numbers = tokens.split()
    if not b"".join(numbers).isdigit():
        return "semantic tokens are not numbers", printable(os.fsdecode(tokens[:40]))
    longest = max(numbers, key=len)
    largest = longest if len(longest) > _MAX_DIGITS else max(numbers, key=int)
    if len(largest) > _MAX_DIGITS or int(largest) >= config.codes:
        return "a semantic token beyond the codebook", largest.decode()[:40]
    known = symbol_ids(config.symbols)
    unknown = set(phonemes.split(" ")) - known.keys()
    if unknown:
        return f"phoneme not in table {config.symbols}", min(unknown)
    return None


def _filtered(tokens: bytes, phonemes: str, config: GptSovitsConfig) -> tuple[str, str] | None:
    """Why upstream's training leaves a row out, in the order in which it asks."""
    if not config.upstream_filters:
        return None
    most = config.max_seconds * TOKENS_PER_SECOND
    length, count = len(tokens.split()), len(phonemes.split(" "))
    if length > most:
        return "upstream filter: over gpt_sovits.max_seconds", f"{length / TOKENS_PER_SECOND:.2f}"
    if count > most / _TOKENS_PER_PHONEME:
        return "upstream filter: too many phonemes for gpt_sovits.max_seconds", str(count)
    rate = count / (length / TOKENS_PER_SECOND)
    if rate < config.min_phonemes_per_second:
        return "upstream filter: under gpt_sovits.min_phonemes_per_second", f"{rate:.2f}"
    if rate > config.max_phonemes_per_second:
        return "upstream filter: over gpt_sovits.max_phonemes_per_second", f"{rate:.2f}"
    return None


def _counts(word2ph: str) -> list[int] | None:
    """Phonemes per character; None for what is no list of numbers, such as ``None``."""
    try:
        counts = json.loads(word2ph)
    except (ValueError, RecursionError):
        return None
    if isinstance(counts, list) and all(type(count) is int for count in counts):
        return counts
    return None


def _features(path: Path, what: str, shape: tuple[int | None, ...]) -> npt.NDArray[np.float16]:
    """A saved tensor of ``shape``, None being any length."""
    import torch

    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        half = saved.detach().to(torch.float16)
        fits = len(half.shape) == len(shape) and all(
            wanted in {None, length} for wanted, length in zip(shape, half.shape, strict=True)
        )
        finite = bool(half.isfinite().all())
    except Exception as error:  # a torn or foreign pickle fails in many ways
        raise UnusableError(f"{what} features cannot be read", file=str(path)) from error
    if not fits:
        found = str(tuple(half.shape))
        raise UnusableError(f"{what} features are not of the clip's shape", found, str(path))
    if not finite:
        raise UnusableError(f"{what} features are not finite", file=str(path))
    array: npt.NDArray[np.float16] = half.numpy()
    return array
