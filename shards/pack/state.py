"""What a folder of shards was begun with, so that nothing else is mixed into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from shards.atomic import replacing
from shards.errors import UserError
from shards.index import FILE_NAME, FORMAT
from shards.pack.config import PackConfig
from shards.pack.recipe import WORK_FOLDER, Recipe

SETTINGS = "pack.json"


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

    def keep(self, out: Path) -> None:
        """Write it into ``out``; UserError if ``out`` was begun with other settings."""
        begun = any((out / WORK_FOLDER).glob("block-*.json")) or any(out.glob("*.npz"))
        indexed = (out / FILE_NAME).is_file()
        if (out / SETTINGS).is_file() and (begun or indexed):
            self.refuse_other(State.read(out), out)
        elif indexed:
            raise UserError(f"OUT: {out} holds an index of another origin; choose an empty folder")
        with replacing(out / SETTINGS) as aside:
            aside.write_text(self.model_dump_json(indent=1), encoding="utf-8")

    def refuse_other(self, theirs: State, out: Path) -> None:
        """UserError if ``theirs``, found in ``out``, differs."""
        ours = json.loads(self.model_dump_json())["settings"]
        other = [
            f"{key} was {theirs.settings.get(key)} and is now {ours.get(key)}"
            for key in {**theirs.settings, **ours}
            if theirs.settings.get(key) != ours.get(key)
        ]
        if other:
            raise UserError(
                f"OUT: {out} was begun with other settings ({'; '.join(other)}); "
                "choose an empty folder"
            )


def _settings(recipe: Recipe, corpus: str) -> dict[str, Any]:
    chosen = recipe.config.model_dump(mode="json", exclude={"features"})
    sections = {key: value for key, value in chosen.items() if isinstance(value, dict)}
    return {
        "format": FORMAT,
        "source": recipe.source.path.name,
        "from": recipe.source.kind,
        "corpus": corpus,
        "features": list(recipe.names),
        **{key: value for key, value in chosen.items() if key not in sections},
        **{f"{section}.{key}": v for section, keys in sections.items() for key, v in keys.items()},
        "audio.store": recipe.store,
    }
