"""What a folder of shards was begun with, so that nothing else is mixed into it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import xxhash
from pydantic import BaseModel, ConfigDict, ValidationError

from shards.atomic import aside_of, replacing
from shards.errors import UserError
from shards.index import FILE_NAME, FORMAT
from shards.pack.config import PackConfig
from shards.pack.recipe import WORK_FOLDER, Recipe

SETTINGS = "pack.json"
MOST_TOLD = 5


class State(BaseModel):
    """``pack.json``: what the shards depend on, how many blocks there are, and the features' facts.

    ``settings`` holds all of it by the names a user knows.
    """

    model_config = ConfigDict(frozen=True)

    settings: dict[str, Any]
    config: PackConfig
    blocks: int
    about: dict[str, Any]

    @classmethod
    def of(cls, recipe: Recipe, corpus: str, blocks: int) -> State:
        """The state of a job; ``corpus`` is a fingerprint of what was listed."""
        about = {feature.member: feature.about() for feature in recipe.features}
        settings = _settings(recipe, corpus)
        return cls(settings=settings, config=recipe.config, blocks=blocks, about=about)

    @classmethod
    def read(cls, out: Path) -> State:
        """UserError where nothing has been packed."""
        try:
            return cls.model_validate_json((out / SETTINGS).read_bytes())
        except (OSError, ValidationError) as error:
            raise UserError(
                f"OUT: {out} holds no {SETTINGS} of ours; name a folder that 'segue shards pack' "
                "has begun"
            ) from error

    @property
    def fingerprint(self) -> str:
        """Another for everything that makes other shards."""
        return xxhash.xxh3_128_hexdigest(json.dumps(self._compared(), sort_keys=True).encode())

    def _compared(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.model_dump_json())
        return {**said["settings"], "blocks": said["blocks"], "models": said["about"]}

    def keep(self, out: Path) -> None:
        """Write it into ``out``; UserError if ``out`` was begun with other settings."""
        path = out / SETTINGS
        _refuse_foreign(out)
        if not _written_first(path, self.model_dump_json(indent=1)):
            theirs = State.read(out)
            if _begun(out):
                self.refuse_other(theirs, out)
            elif theirs.fingerprint != self.fingerprint:
                with replacing(path) as aside:
                    aside.write_text(self.model_dump_json(indent=1), encoding="utf-8")

    def refuse_other(self, theirs: State, out: Path) -> None:
        """UserError if ``theirs``, found in ``out``, differs."""
        before, now = dict(_leaves(theirs._compared())), dict(_leaves(self._compared()))
        other = [
            f"{key} was {before.get(key)} and is now {now.get(key)}"
            for key in {**before, **now}
            if before.get(key) != now.get(key)
        ]
        if other:
            more = f"; and {len(other) - MOST_TOLD} more" if len(other) > MOST_TOLD else ""
            raise UserError(
                f"OUT: {out} was begun with other settings ({'; '.join(other[:MOST_TOLD])}{more}); "
                "choose an empty folder"
            )


def check_begun(recipe: Recipe) -> None:
    """UserError if OUT was begun otherwise, as far as that shows before the corpus is listed."""
    out = recipe.out
    _refuse_foreign(out)
    if (out / SETTINGS).is_file() and _begun(out):
        theirs = State.read(out)
        ours = State.of(recipe, theirs.settings.get("corpus", ""), theirs.blocks)
        ours.refuse_other(theirs, out)


def _refuse_foreign(out: Path) -> None:
    """UserError if ``out`` holds shards or an index that packing did not write."""
    if (out / SETTINGS).is_file():
        return
    if (out / FILE_NAME).is_file():
        raise UserError(f"OUT: {out} holds an index of another origin; choose an empty folder")
    if (tar := next(out.glob("*.tar"), None)) is not None:
        raise UserError(f"OUT: {tar} was not packed here; choose an empty folder")


def _leaves(settings: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{within}{key}.")
        else:
            yield f"{within}{key}", value


def _written_first(path: Path, text: str) -> bool:
    """Whether ``path`` was not there and now is; of several jobs that ask, one hears yes."""
    aside = aside_of(path)
    aside.write_text(text, encoding="utf-8")
    try:
        os.link(aside, path)
    except FileExistsError:
        return False
    finally:
        aside.unlink()
    return True


def _begun(out: Path) -> bool:
    """Whether anything there depends on the settings."""
    work = out / WORK_FOLDER
    made = (work.glob("block-*.json"), work.glob("chunk-*.json"), out.glob("*.npz"))
    return (out / FILE_NAME).is_file() or any(path for found in made for path in found)


def _settings(recipe: Recipe, corpus: str) -> dict[str, Any]:
    # Models are told apart by their weights, which stand among the features' facts.
    places: dict[str, Any] = {"hubert": {"model"}, "bert": {"model"}}
    places["sovits"] = {"cnhubert", "checkpoint"}
    chosen = recipe.config.model_dump(mode="json", exclude={"features": True, **places})
    sections = {key: value for key, value in chosen.items() if isinstance(value, dict)}
    return {
        "format": FORMAT,
        "source": recipe.corpus,
        "from": recipe.source.kind,
        "corpus": corpus,
        "features": list(recipe.names),
        **{key: value for key, value in chosen.items() if key not in sections},
        **{f"{section}.{key}": v for section, keys in sections.items() for key, v in keys.items()},
        "audio.store": recipe.store,
    }
