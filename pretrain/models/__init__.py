"""The model families, by the name that a run config gives as ``model.name``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

from pydantic import Field, create_model

from pretrain.models.protocol import Family
from shards.section import ChoiceError, Section

_Config = TypeVar("_Config", bound=Section)
DEFAULT = "gpt_sovits_s1"
FAMILIES = {
    "gpt_sovits_s1": "pretrain.models.gpt_sovits_s1.config:S1Config",
    "seed_vc": "pretrain.models.seed_vc.config:SeedVCConfig",
}
"""Where the config of each family is: module and class."""


def family_named(name: str) -> type[Family]:
    """The config of a family: one of `FAMILIES`, or a user's own as ``module:Class``.

    ChoiceError where there is none.
    """
    module, _, attribute = FAMILIES.get(name, name).partition(":")
    try:
        found = getattr(import_module(module), attribute) if attribute else None
    except (ImportError, AttributeError, ValueError) as error:
        raise ChoiceError("model.name", f"model.name={name!r}: {error}; {_choices()}") from error
    if not (isinstance(found, type) and issubclass(found, Family)):
        raise ChoiceError("model.name", f"model.name={name!r}: no model family; {_choices()}")
    return found


def with_family(config: type[_Config], values: Mapping[str, Any]) -> type[_Config]:
    """``config`` with a ``model`` of the family that ``values`` name, as `family_named`."""
    model = values.get("model")
    named = model.get("name", DEFAULT) if isinstance(model, Mapping) else DEFAULT
    return _with(config, family_named(str(named)))


@cache
def _with(config: type[_Config], family: type[Family]) -> type[_Config]:
    field: Any = (family, Field(default_factory=family))
    return create_model(config.__name__, __base__=config, model=field)


def _choices() -> str:
    return f"use {', '.join(FAMILIES)}, or module:Class of a model of your own"
