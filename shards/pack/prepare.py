"""One recording into clips: decode, cut, clean, judge, compute, encode."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.audio import Audio, AudioPlace, read_bytes
from shards.clip import Clip
from shards.json_facts import COLUMNS, UnusableError
from shards.pack.encode import flac, largest, lengths, npy, sound_hash, words_hash
from shards.pack.keys import piece_key
from shards.pack.recipe import Recipe
from shards.pack.takes import RefusedError, Take, one_line, takes
from shards.quality.clean import cleaned, trimmed
from shards.quality.figures import measure
from shards.quality.limits import breach
from shards.sources.source import Members, Recording, Reject
from shards.text.normalize import normalized


@dataclass(frozen=True)
class Prepared:
    """A clip with its members encoded. ``sound`` and ``words`` are hashes of what is heard and
    said, 0 where there is nothing."""

    key: str
    name: str
    file: str
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
        # A text beside the audio has no place in time: it does not keep a recording from being cut.
        bound = {name: member for name, member in carried.items() if name != "txt"}
        for take in takes(recipe, recording, bound):
            own = carried if take.name == recording.name else bound
            yield _prepared_or_not(recipe, recording, take, own, file)
    except RefusedError as refused:
        yield Reject(recording.name, refused.reason, refused.figure, file)
    except UnusableError as unusable:
        yield Reject(recording.name, unusable.reason, unusable.figure, unusable.file or file)
    except ValueError as error:
        yield Reject(recording.name, one_line(error), "", file)


def _prepared_or_not(
    recipe: Recipe, recording: Recording, take: Take, carried: Members, file: str
) -> Prepared | Reject:
    try:
        return _prepared(recipe, recording, take, carried, file)
    except RefusedError as refused:
        return Reject(take.name, refused.reason, refused.figure, file)
    except ValueError as error:
        return Reject(take.name, one_line(error), "", file)


def _prepared(
    recipe: Recipe, recording: Recording, take: Take, carried: Members, file: str
) -> Prepared:
    heard, facts = _heard(recipe, recording, take)
    clip = _clip(recipe, recording, take, heard, facts)
    _refuse_missing(recipe, clip, carried)
    seconds = heard.seconds if heard else float(recording.seconds or 0.0)
    measured = measure(heard) if heard else {}
    _refuse_bad({**recording.figures, **measured, "seconds": seconds}, recipe)
    members = {**carried, **_computed(recipe, clip)}
    _refuse_names(members)
    measured |= _pace(members, seconds)
    _refuse_bad(measured, recipe)
    files = {name: _file(member) for name, member in members.items()}
    sound = _audio_file(recipe, recording, take, clip.audio)
    _refuse_twice(files, sound)
    return Prepared(
        key=piece_key(recording.name, take.name),
        name=take.name,
        file=file,
        seconds=seconds,
        speaker=recording.speaker,
        language=recording.language,
        members={**files, **sound, "json": _said(recipe, take, clip, seconds, measured)},
        lengths=lengths(members),
        largest=largest(members),
        figures=_usable({**recording.figures, **measured}, members),
        sound=sound_hash(take.audio, files),
        words=words_hash(clip.text, recording.speaker),
    )


def _heard(recipe: Recipe, recording: Recording, take: Take) -> tuple[Audio | None, dict[str, Any]]:
    """What is left of the audio after trimming, and the facts of the take."""
    facts = {**recording.facts, **take.facts}
    if take.audio is None or not recipe.config.clean.trim:
        return take.audio, facts
    heard, start = trimmed(take.audio, recipe.config.clean)
    return heard, {**facts, "trimmed": round(start, 4)}


def _clip(
    recipe: Recipe, recording: Recording, take: Take, heard: Audio | None, facts: Mapping[str, Any]
) -> Clip:
    # word2ph counts the phonemes of each character: such a text is ready as it is.
    ready = "word2ph" in recording.facts
    text = take.text if ready else normalized(take.text, recording.language, recipe.config.text)
    sound = cleaned(heard, recipe.config.clean) if heard else None
    return Clip(take.name, text, recording.speaker, recording.language, sound, facts)


def _refuse_missing(recipe: Recipe, clip: Clip, carried: Members) -> None:
    if recipe.needs_text and not clip.text:
        raise RefusedError("no text")
    if clip.audio is None and (recipe.needs_audio or not carried.keys() - {"txt"}):
        raise RefusedError("no audio")


def _refuse_bad(figures: Mapping[str, float], recipe: Recipe) -> None:
    found = breach(figures, recipe.config.quality)
    if found is not None:
        raise RefusedError(*found)


def _refuse_names(members: Members) -> None:
    """What the index has columns for cannot be a member, nor what WebDataset leaves out."""
    for name, member in members.items():
        stem = name.removesuffix(".npy")
        if stem in COLUMNS or name.startswith(("_", "#")) or name == "json":
            raise RefusedError("a file with a name that shards use themselves", name)
        if isinstance(member, np.ndarray) and member.ndim == 0:
            raise RefusedError("an array without axes", name)


def _refuse_twice(files: Mapping[str, bytes], sound: Mapping[str, bytes]) -> None:
    for name in files.keys() & sound.keys():
        raise RefusedError("two audio files of one name in a clip", name)


def _computed(recipe: Recipe, clip: Clip) -> dict[str, npt.NDArray[Any]]:
    computed = ((feature.member, feature.compute(clip)) for feature in recipe.features)
    return {member: array for member, array in computed if array is not None}


def _pace(members: Members, seconds: float) -> dict[str, float]:
    phonemes = members.get("phonemes.npy")
    if not isinstance(phonemes, np.ndarray) or seconds <= 0:
        return {}
    return {"phonemes_per_second": phonemes.shape[-1] / seconds}


def _usable(figures: Mapping[str, float], members: Members) -> dict[str, float]:
    """The figures whose names no other column of the index has."""
    taken = {*COLUMNS, *(name.removesuffix(".npy") for name in members)}
    return {name: value for name, value in figures.items() if name not in taken}


def _said(
    recipe: Recipe, take: Take, clip: Clip, seconds: float, measured: Mapping[str, float]
) -> bytes:
    """The clip's .json: what the corpus said of it as it came, beside our own."""
    facts = {
        "name": take.name,
        "seconds": round(seconds, 4),
        "speaker": clip.speaker,
        "language": clip.language,
        "text": take.text,
        **({"spoken": clip.text} if clip.text != take.text else {}),
        "source": recipe.corpus,
        **clip.facts,
        **{name: round(value, 4) for name, value in measured.items()},
    }
    return json.dumps(facts, ensure_ascii=False).encode()


def _file(member: npt.NDArray[Any] | bytes) -> bytes:
    return member if isinstance(member, bytes) else npy(member)


def _audio_file(
    recipe: Recipe, recording: Recording, take: Take, sound: Audio | None
) -> dict[str, bytes]:
    if sound is None or recipe.store == "none":
        return {}
    untouched = take.extension is not None and sound is take.audio
    if recipe.store == "original" and untouched and recording.audio:
        return {str(take.extension): _as_it_came(recording.audio)}
    return {"flac": flac(sound.at(recipe.config.audio.sample_rate or sound.sample_rate))}


def _as_it_came(place: AudioPlace) -> bytes:
    try:
        return read_bytes(place)
    except OSError as error:
        raise RefusedError("audio cannot be read", one_line(error)) from error
