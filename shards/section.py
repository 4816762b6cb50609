"""The base of every section of a run's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from shards.errors import UserError


class ChoiceError(UserError):
    """A value that names a kind of section that is not there; ``key`` is where it stands."""

    def __init__(self, key: str, said: str) -> None:
        super().__init__(said)
        self.key = key


class Section(BaseModel):
    """Immutable options; an unknown key, an infinity or a NaN is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True
    )

    @classmethod
    def kind_for(cls, values: Mapping[str, Any]) -> type[Self]:
        """The class that is to validate ``values``; ChoiceError where they name none there is."""
        return cls
