"""One recording into clips: decode, cut, clean, judge, compute, encode."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import xxhash

from shards.audio import Audio, read_bytes
from shards.clip import Clip
from shards.index import FACTS, SPLIT
from shards.json_facts import UnusableError
from shards.pack.keys import key_of
from shards.pack.recipe import Recipe
from shards.pack.takes import RefusedError, Take, one_line, takes
from shards.quality.clean import CleanConfig, cleaned, trimmed
from shards.quality.figures import measure
from shards.quality.limits import QualityConfig, breach
from shards.sources.source import Members, Recording, Reject
from shards.text.normalize import TextConfig, normalized


@dataclass(frozen=True)
class Prepared:
    """A clip with its members encoded. ``sound`` and ``words`` are hashes of what is heard and
    said, 0 where there is nothing."""

    key: str
    seconds: float
    speaker: str
    language: str
    members: Mapping[str, bytes]
    lengths: Mapping[str, int]
    largest: Mapping[str, int]
    figures: Mapping[str, float]
    sound: int
    words: int


def prepare(recipe: Recipe, recording: Recording) -> Iterator[Prepared | Reject]:
    """The clips of a recording, or why there are none; nothing in a corpus makes it raise."""
    place = recording.audio
    file = str(place.path) if place else ""
    try:
        carried = recipe.source.members(recording)
        for take in takes(recipe, recording, carried):
            yield _prepared_or_not(recipe, recording, take, carried, file)
    except (RefusedError, UnusableError) as refused:
        yield Reject(recording.name, refused.reason, refused.figure, file)
    except ValueError as error:
        yield Reject(recording.name, one_line(error), "", file)


def _prepared_or_not(
    recipe: Recipe, recording: Recording, take: Take, carried: Members, file: str
) -> Prepared | Reject:
    try:
        return _prepared(recipe, recording, take, carried)
    except RefusedError as refused:
        return Reject(take.name, refused.reason, refused.figure, file)
    except ValueError as error:
        return Reject(take.name, one_line(error), "", file)


def _prepared(recipe: Recipe, recording: Recording, take: Take, carried: Members) -> Prepared:
    config, facts = recipe.config, {**recording.facts, **take.facts}
    heard, start = _trimmed(take.audio, config.clean)
    if start > 0:
        facts["trimmed"] = round(start, 4)
    figures = {**recording.figures, **(measure(heard) if heard else {})}
    spoken = _spoken(take.text, recording, config.text)
    sound = cleaned(heard, config.clean) if heard else None
    clip = Clip(take.name, spoken, recording.speaker, recording.language, sound, facts)
    _refuse_missing(recipe, clip, carried)
    seconds = heard.seconds if heard else float(recording.seconds or 0.0)
    _refuse_bad({**figures, "seconds": seconds}, config.quality)
    members = {**carried, **_computed(recipe, clip)}
    _judge_pace(figures, members, seconds, config.quality)
    figures = _usable(figures, members)
    said = {"text": take.text, **({"spoken": spoken} if spoken != take.text else {})}
    facts = {
        "name": take.name,
        "seconds": round(seconds, 4),
        "speaker": recording.speaker,
        "language": recording.language,
        **said,
        "source": recipe.source.path.name,
        **facts,
        **{name: round(value, 4) for name, value in figures.items()},
    }
    files = {name: _file(member) for name, member in members.items()}
    return Prepared(
        key=key_of(take.name),
        seconds=seconds,
        speaker=recording.speaker,
        language=recording.language,
        members={
            **files,
            **_audio_file(recipe, recording, take, sound),
            "json": json.dumps(facts, ensure_ascii=False).encode(),
        },
        lengths={_stem(n): a.shape[-1] for n, a in _arrays(members) if a.ndim},
        largest={
            _stem(name): int(array.max())
            for name, array in _arrays(members)
            if np.issubdtype(array.dtype, np.integer) and array.size
        },
        figures=figures,
        sound=_sound_hash(take.audio, files),
        words=_words_hash(spoken, recording.speaker),
    )


def _spoken(text: str, recording: Recording, config: TextConfig) -> str:
    # word2ph counts the phonemes of each character: such a text is ready as it is.
    return text if "word2ph" in recording.facts else normalized(text, recording.language, config)


def _trimmed(audio: Audio | None, config: CleanConfig) -> tuple[Audio | None, float]:
    if audio is None or not config.trim:
        return audio, 0.0
    return trimmed(audio, config)


def _refuse_missing(recipe: Recipe, clip: Clip, carried: Members) -> None:
    if recipe.needs_text and not clip.text:
        raise RefusedError("no text")
    if clip.audio is None and (recipe.needs_audio or not carried):
        raise RefusedError("no audio")


def _refuse_bad(figures: Mapping[str, float], config: QualityConfig) -> None:
    found = breach(figures, config)
    if found is not None:
        raise RefusedError(*found)


def _computed(recipe: Recipe, clip: Clip) -> dict[str, npt.NDArray[Any]]:
    computed = ((feature.member, feature.compute(clip)) for feature in recipe.features)
    return {member: array for member, array in computed if array is not None}


def _judge_pace(
    figures: dict[str, float], members: Members, seconds: float, config: QualityConfig
) -> None:
    phonemes = members.get("phonemes.npy")
    if isinstance(phonemes, np.ndarray) and seconds > 0:
        figures["phonemes_per_second"] = phonemes.shape[-1] / seconds
        _refuse_bad({"phonemes_per_second": figures["phonemes_per_second"]}, config)


def _usable(figures: Mapping[str, float], members: Members) -> dict[str, float]:
    """The figures whose names no other column of the index has."""
    taken = {*FACTS, SPLIT, *(_stem(name) for name in members)}
    return {name: value for name, value in figures.items() if name not in taken}


def _arrays(members: Members) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    for name, member in members.items():
        if isinstance(member, np.ndarray):
            yield name, member


def _stem(member: str) -> str:
    return member.removesuffix(".npy")


def _file(member: npt.NDArray[Any] | bytes) -> bytes:
    if isinstance(member, bytes):
        return member
    file = io.BytesIO()
    np.save(file, member, allow_pickle=False)
    return file.getvalue()


def _audio_file(
    recipe: Recipe, recording: Recording, take: Take, sound: Audio | None
) -> dict[str, bytes]:
    if sound is None or recipe.store == "none":
        return {}
    untouched = take.extension is not None and sound is take.audio
    if recipe.store == "original" and untouched and recording.audio:
        return {str(take.extension): read_bytes(recording.audio)}
    return {"flac": flac(sound.at(recipe.config.audio.sample_rate or sound.sample_rate))}


def flac(audio: Audio) -> bytes:
    """The audio as a FLAC file of 16 bits."""
    file = io.BytesIO()
    samples = np.clip(audio.samples, -1.0, 1.0)
    soundfile.write(file, samples, audio.sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _sound_hash(audio: Audio | None, files: Mapping[str, bytes]) -> int:
    """Of the decoded samples, so that the same sound in another format is found; else of files."""
    if audio is None:
        return xxhash.xxh3_64_intdigest(b"".join(files[name] for name in sorted(files)))
    samples = np.rint(audio.samples * 32767).astype(np.int32)
    return xxhash.xxh3_64_intdigest(samples.tobytes(), seed=audio.sample_rate)


def _words_hash(text: str, speaker: str) -> int:
    """Of letters and digits alone: case and punctuation make no difference."""
    letters = "".join(character for character in text.casefold() if character.isalnum())
    return xxhash.xxh3_64_intdigest(f"{speaker}\0{letters}".encode()) if letters else 0
