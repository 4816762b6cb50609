"""One clip of packed shards: what is known of it, and its sound."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import soundfile

from shards.audio import Audio
from shards.corpus import Corpus
from shards.dataset import DataConfig, open_corpus, open_stores
from shards.errors import UserError
from shards.fields import AUDIO, Field
from shards.index import AUDIO_FORMATS
from shards.reading import ClipReader, listed

PLAYERS = (("ffplay", "-nodisp", "-autoexit", "-loglevel", "error"), ("paplay",), ("aplay", "-q"))
"""Programs that play a WAV file, and how they are asked to say nothing."""
_HIDDEN = {"key", "members", "offset", "size"}


@dataclass(frozen=True)
class Shown:
    """A clip: ``facts`` of the index by name, and its ``members`` as they are decoded."""

    key: str
    facts: dict[str, Any]
    members: dict[str, Any]

    def lines(self) -> Iterator[str]:
        """What is known of it, a line each."""
        yield self.key
        for name, value in self.facts.items():
            yield f"  {name}: {value:.3f}" if isinstance(value, float) else f"  {name}: {value}"
        for name, member in self.members.items():
            yield f"  {name}: {_described(member)}"


def show(place: str, key: str) -> Shown:
    """The clip ``key`` of the shards at a folder or URL, its bytes checked.

    UserError where there is no such clip or its bytes are not what was packed.
    """
    corpus, data = _corpus(place)
    row = _row_of(corpus, place, key)
    table = corpus.sources[0].index.table.slice(row, 1)
    facts = {
        name: table.column(name)[0].as_py() for name in table.column_names if name not in _HIDDEN
    }
    known = {name: value for name, value in facts.items() if not _is_nan(value)}
    own = [member["name"] for member in table.column("members")[0].as_py()]
    fields = [Field(name, 0, "float32") for name in own if name not in AUDIO_FORMATS]
    reader = ClipReader(corpus, open_stores(corpus, data.cache), fields)
    return Shown(key, known, _members(reader, row, f"clip {key} of {place}"))


def sound(place: str, key: str) -> Audio:
    """The clip's audio at its own rate; UserError as `show`, and where it has none."""
    corpus, data = _corpus(place)
    row = _row_of(corpus, place, key)
    if not corpus.sources[0].index.have_member(AUDIO_FORMATS, row, row + 1)[0]:
        raise UserError(f"clip {key} of {place} has no audio; pack with audio.store=flac")
    decoders = dict.fromkeys(AUDIO_FORMATS, _decoded)
    fields, stores = [Field(AUDIO, 0, "float32")], open_stores(corpus, data.cache)
    reader = ClipReader(corpus, stores, fields, decoders)
    found = _members(reader, row, f"clip {key} of {place}")[AUDIO]
    assert isinstance(found, Audio)
    return found


def _members(reader: ClipReader, row: int, clip: str) -> dict[str, Any]:
    """One clip's members, decoded; UserError, which calls it ``clip``, where they cannot be."""
    clips = reader.read(np.array([row]))
    if clips.failures:
        raise UserError(f"{clip}: {clips.failures[0].reason}; pack it again")
    return {name: listed(column)[0] for name, column in clips.members.items()}


def _decoded(data: bytes) -> Audio:
    from shards.decode import decode_audio

    return Audio(*decode_audio(data))


def play(audio: Audio, aside: Path) -> None:
    """Play by the first of `PLAYERS` that is there, from a WAV file written ``aside``."""
    found = next((player for player in PLAYERS if shutil.which(player[0])), None)
    if found is None:
        names = ", ".join(player[0] for player in PLAYERS)
        raise UserError(f"none of {names} is on this machine; write a file with --out FILE.wav")
    write(audio, aside)
    if subprocess.run([*found, str(aside)], check=False).returncode:
        raise UserError(
            f"{found[0]} could not play (no sound device?); write a file with --out FILE.wav"
        )


def write(audio: Audio, out: Path) -> None:
    """A WAV file of 16 bits; UserError where it cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("wb") as file:
            soundfile.write(file, audio.samples, audio.sample_rate, format="WAV", subtype="PCM_16")
    except OSError as error:
        raise UserError(
            f"--out {out} cannot be written: {error.strerror}; name another file"
        ) from error


def _corpus(place: str) -> tuple[Corpus, DataConfig]:
    data = DataConfig(path=place)
    try:
        return open_corpus(data), data
    except UserError as error:  # it names a run's setting
        raise UserError(f"SHARDS{str(error).removeprefix('data.path')}") from error


def _row_of(corpus: Corpus, place: str, key: str) -> int:
    row: int = pc.index(corpus.sources[0].index.table.column("key"), key).as_py()
    if row < 0:
        raise UserError(
            f"{place} has no clip {key}; segue shards plan lists those of a run's steps"
        )
    return row


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _described(member: Any) -> str:
    if not isinstance(member, np.ndarray):
        return json.dumps(member, ensure_ascii=False) if isinstance(member, dict) else str(member)
    shape = " x ".join(map(str, member.shape))
    if not member.size:
        return f"{member.dtype} [{shape}]"
    return f"{member.dtype} [{shape}], {member.min():.4g} to {member.max():.4g}"
