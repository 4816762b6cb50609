"""The clips that a run validates on: set apart when they were packed, or of other folders."""

from __future__ import annotations

import json
from dataclasses import dataclass

import xxhash
from pydantic import Field

from shards.dataset import DataConfig, SourceConfig, open_corpus, open_plan
from shards.errors import UserError
from shards.index import SPLIT
from shards.plan import BatchConfig, Plan
from shards.section import Section

OWN = "validation"
"""The name of the run's own set, and of its split."""
READERS = 2  # threads; loader processes would take longer to start than to read


class ValidationConfig(Section):
    """``validation``: how often, on what, and when to stop for it."""

    every: int | None = Field(
        default=None,
        ge=0,
        description="steps between validations, 0 for none; left out: checkpoint.every, where the "
        "shards hold clips set apart",
    )
    sources: tuple[SourceConfig, ...] = Field(
        default=(),
        description="more folders to validate on beside the run's own, such as the old data: "
        "their clips set apart, or all where none are",
    )
    max_steps: int | None = Field(
        default=None, ge=1, description="at most so many steps' worth of clips of each"
    )
    stop_after: int | None = Field(
        default=None, ge=1, description="end the run after so many validations without a new best"
    )


@dataclass(frozen=True)
class HeldOut:
    """Clips to validate on: one epoch of ``plan``, or its first ``steps``."""

    name: str
    plan: Plan
    data: DataConfig
    steps: int

    @property
    def digest(self) -> str:
        """Of which clips these are: losses on others cannot be compared."""
        facts = {**self.plan.fingerprint, "steps": self.steps}
        if self.steps == self.plan.step_at(1.0):  # all clips, in whatever batches
            facts = {key: facts[key] for key in facts if key.startswith("data.")}
            facts["clips by shard"] = self.plan.census.counts.sum(axis=1).tolist()
        return xxhash.xxh3_64_hexdigest(json.dumps(facts, sort_keys=True).encode())


def own_digest(sets: tuple[HeldOut, ...]) -> str:
    """That of the run's own clips, "" where it has none set apart."""
    return next((held.digest for held in sets if held.name == OWN), "")


def held_out(
    validation: ValidationConfig, data: DataConfig, batch: BatchConfig, seed: int
) -> tuple[HeldOut, ...]:
    """What a run validates on, its own clips first; UserError as `open_plan`.

    Nothing where no clips are set apart and ``validation.every`` does not ask for them.
    """
    if validation.every == 0:
        return ()
    sets = [(OWN, data.places)] if _is_split(data) else []
    sets += [(source.called, (source,)) for source in validation.sources]
    if validation.every and not sets:
        raise UserError(
            f"validation.every={validation.every}: the shards have no clips set apart; pack them "
            "again with validation=0.01, or name others in validation.sources"
        )
    names = [OWN, *(source.called for source in validation.sources)]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"validation.sources: {name} is the name of two sets; give each {{path: ..., "
                "name: ...} one of its own"
            )
    found = []
    for name, places in sets:
        split = OWN if name == OWN else None
        try:
            found.append(opened_set(name, places, split, validation.max_steps, data, batch, seed))
        except UserError as error:
            if name == OWN:
                raise
            raise UserError(str(error).replace("data.path", "validation.sources")) from error
    return tuple(found)


def _is_split(data: DataConfig) -> bool:
    indexes = (source.index for source in open_corpus(data).sources)
    return any(
        SPLIT in index.table.column_names and OWN in index.names(SPLIT).to_pylist()
        for index in indexes
    )


def opened_set(
    name: str,
    places: tuple[SourceConfig, ...],
    split: str | None,
    max_steps: int | None,
    data: DataConfig,
    batch: BatchConfig,
    seed: int,
) -> HeldOut:
    """The clips of ``places``, read as ``data`` says; UserError as `open_plan`.

    ``split`` None takes the clips set apart, or all where none are.
    """
    reading = {"path": None, "curriculum": (), "workers": 0, "threads": READERS}
    once = tuple(place.model_copy(update={"repeat": 1.0}) for place in places)
    own = data.model_copy(update={**reading, "sources": once, "on_error": "skip"})
    chosen = split or (OWN if _is_split(own) else "all")
    own = own.model_copy(update={"split": chosen})
    plan = open_plan(own, batch, seed)
    steps = plan.step_at(1.0)
    return HeldOut(name, plan, own, min(steps, max_steps or steps))
